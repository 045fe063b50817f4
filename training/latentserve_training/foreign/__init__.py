"""The import of other libraries' ONNX files as bundles."""
