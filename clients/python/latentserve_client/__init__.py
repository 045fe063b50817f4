"""The Python client of latentserve."""
