"""A model version on disk: verified, opened, tried on its golden rows."""
