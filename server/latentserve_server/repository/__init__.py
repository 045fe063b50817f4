"""The models that are served, and how that changes."""
