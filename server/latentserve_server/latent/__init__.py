"""Seeds to latents, and images to nats, in NumPy alone."""
