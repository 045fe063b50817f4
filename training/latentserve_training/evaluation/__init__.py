"""The evaluation of a trained model on its test images."""
