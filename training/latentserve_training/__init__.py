"""Training, evaluation and export of VAEs and GANs."""
