"""Bundles on disk: verified, opened and tried on their golden rows."""
