"""Latents, labels, priors, likelihoods and scores, in NumPy alone."""
