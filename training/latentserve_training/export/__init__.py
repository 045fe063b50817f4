"""A trained model as a bundle that servers can load."""
