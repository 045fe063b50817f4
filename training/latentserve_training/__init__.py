"""Offline training of VAEs and GANs: `latentserve-train`, `latentserve-evaluate` and `latentserve-export`."""
