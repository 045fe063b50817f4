"""A trained model judged on test images that it has never seen."""
