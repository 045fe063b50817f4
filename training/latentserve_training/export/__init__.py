"""The export of a trained model as a bundle that servers load."""
