"""ONNX Runtime sessions for checks."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from latentserve_training.errors import ExportError


def open_session(model: bytes | Path) -> onnxruntime.InferenceSession:
    """A CPU session of a model or model file, with one thread so that sums have a fixed order.

    Raises:
        ExportError: onnxruntime cannot run the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds of error have no public common class
        raise ExportError(f"onnxruntime cannot open the graph: {error}") from error
