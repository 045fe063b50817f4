"""What onnxruntime says, cut to the node and the reason, from its own errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from latentserve_training.export.runtime_message import shortened


def failure(text: str, **edits: int) -> Exception:
    """What onnxruntime raises as it opens the model, or runs it with five rows."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {text}')
    for field, value in edits.items():
        setattr(model, field, value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    fed: dict[str, Any] = {"x": np.ones((5, 3), np.float32)}
    with pytest.raises(Exception) as raised:
        onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, fed)
    return raised.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "g (float[N, 3] x) => (float[M, K] y) <int64[2] two = {2, 3}> { y = Reshape(x, two) }",
            "Reshape: input_shape_size == requested_shape_size was false. The input tensor cannot be reshaped to the "
            "requested shape. Input shape:{5,3}, requested shape:{2,3}",
        ),
        ("g (float[N, 3] x) => (float[N, 3] y) { y = MatMul(x, x) }", "MatMul dimension mismatch"),
        ("g (float[N, 3] x) => (float[N, 3] y) { y = Erfc(x) }", "No Op registered for Erfc with domain_version of 18"),
    ],
)
def test_the_node_and_the_reason_are_left(text: str, message: str) -> None:
    found = shortened(failure(text))
    assert message in found
    for noise in ("[ONNXRuntimeError]", "onnxruntime_src", ".h:", ".cc:", "::", "Status Message"):
        assert noise not in found


def test_a_version_of_the_format_is_told_in_few_words() -> None:
    found = shortened(failure("g (float[N, 3] x) => (float[N, 3] y) { y = Tanh(x) }", ir_version=99))
    assert found == "Unsupported model IR version: 99, max supported IR version: 13"


def test_other_errors_are_one_line() -> None:
    assert shortened(ValueError("no\n  such\tthing.\n")) == "no such thing"
