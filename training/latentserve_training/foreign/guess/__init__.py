"""What ONNX files are, guessed from their graphs, and asked where the graphs do not say it."""
