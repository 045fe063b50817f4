"""The outline of ONNX models."""

"""The outline of ONNX models."""
