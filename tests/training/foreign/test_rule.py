"""Foreign graphs held to the rule: versions, operators that ONNX lacks, and those that no bundle may have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from training.foreign_models import GAN, LATENTS, TANH, WEIGHTS, bring, changed, refusal, run, write

Capture = pytest.CaptureFixture[str]

DESCRIBED: dict[str, Any] = {**GAN, "image_range": [-1, 1]}
NORMALISED = "d, i, j = BatchNormalization<training_mode = 1>(h, scale, shift, shift, scale)\n y = Tanh(d)"


LOOP_BODY = "body (int64 i, bool go, float[N, 12] u) => (bool on, float[N, 12] v) { on = Identity(go)\n v = Tanh(u) }"
MAP_BODY = "body (float[N, 12] u) => (float[N, 12] v) { v = Tanh(u) }"


def told(folder: Path, capsys: Capture) -> str:
    """What is said of the decoder, which is refused."""
    code, said = refusal(folder, capsys, DESCRIBED)
    assert code == 1
    return said


def edited(path: Path, edit: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def assert_drawn(folder: Path) -> None:
    found = run(folder, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)


def test_a_format_that_onnxruntime_does_not_open_is_lowered_where_nothing_of_it_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "g.onnx", TANH)
    edited(path, lambda model: setattr(model, "ir_version", 14))
    assert bring(tmp_path, DESCRIBED) == 0
    assert onnx.load(tmp_path / "models" / "m" / "1" / "decoder.onnx").ir_version == 13
    assert_drawn(tmp_path)


def test_weights_that_are_inputs_as_the_oldest_format_demands_are_weights(tmp_path: Path) -> None:
    def age(model: onnx.ModelProto) -> None:
        model.ir_version = 3
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    edited(write(tmp_path / "g.onnx", TANH, opset=8), age)
    assert bring(tmp_path, DESCRIBED) == 0
    assert_drawn(tmp_path)


def use_float6(model: onnx.ModelProto) -> None:
    model.ir_version = 14
    model.graph.initializer.append(helper.make_tensor("six", TensorProto.FLOAT6E2M3, [1], [1.0]))
    model.graph.node[0].input[0] = "cast"
    model.graph.node.insert(0, helper.make_node("Cast", ["six"], ["unused"], to=TensorProto.FLOAT))
    model.graph.node.insert(1, helper.make_node("Add", ["z", "unused"], ["cast"]))


ALLOWED = "; allowed are IR versions 3 to 13 and operator sets 7 to 26"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (use_float6, f"the graph's IR version is 14 and its operator set 18{ALLOWED}"),
        (
            lambda model: setattr(model, "ir_version", 15),
            f"the graph's IR version is 15 and its operator set 18{ALLOWED}",
        ),
        (
            lambda model: setattr(model.opset_import[0], "version", 27),
            f"the graph's IR version is 8 and its operator set 27{ALLOWED}",
        ),
        (
            lambda model: setattr(model.opset_import[0], "version", 6),
            f"the graph's IR version is 8 and its operator set 6{ALLOWED}",
        ),
    ],
)
def test_versions_that_no_server_opens_are_named(
    tmp_path: Path, capsys: Capture, edit: Callable[[onnx.ModelProto], object], message: str
) -> None:
    edited(write(tmp_path / "g.onnx", TANH), edit)
    assert told(tmp_path, capsys) == f"decoder: {message}"


LACKED = "export the model from another framework or backend, or write"


@pytest.mark.parametrize(
    ("nodes", "opset", "message"),
    [
        (
            "y = Erfc(h)",
            18,
            f"the graph's operator 'Erfc' at 'y' is not in ONNX's operator set 18: {LACKED} erfc(x) as 1 - erf(x)",
        ),
        (
            "s = ScaleAndTranslate(h)\n y = Tanh(s)",
            18,
            "the graph's operator 'ScaleAndTranslate' at 's' is not in ONNX's operator set 18: "
            f"{LACKED} a resize without antialiasing",
        ),
        (
            "y = Gelu(h)",
            19,
            f"the graph's operator 'Gelu' at 'y' is not in ONNX's operator set 19: {LACKED} the layer in operators "
            "that it has",
        ),
        (
            "u = Upsample<scales = [1.0, 1.0]>(h)\n y = Tanh(u)",
            11,
            f"the graph's operator 'Upsample' at 'u' is not in ONNX's operator set 11: {LACKED} the layer in operators "
            "that it has",
        ),
        (
            "n = RandomNormalLike(h)\n m = Add(h, n)\n y = Tanh(m)",
            18,
            "the graph's operator 'RandomNormalLike' at 'n' draws random numbers; noise is an input; 'x' depends on "
            "it: name a tensor from before the noise, or export the model with the noise as part of its latents",
        ),
        (
            "d = Dropout(h, half, always)\n y = Tanh(d)",
            18,
            "the graph's operator 'Dropout' at 'd' draws random numbers; noise is an input; 'x' depends on it: "
            "export the model for inference, in PyTorch after eval()",
        ),
        (
            NORMALISED,
            18,
            "the graph's operator 'BatchNormalization' at 'd' is in training mode; rows are independent; 'x' depends "
            "on it: export the model for inference, in PyTorch after eval()",
        ),
        (
            NORMALISED.replace("<training_mode = 1>", "").replace("i, j", "i, j, k, l"),
            9,
            "the graph's operator 'BatchNormalization' at 'd' is in training mode; rows are independent; 'x' depends "
            "on it: export the model for inference, in PyTorch after eval()",
        ),
        (
            f"y = Loop<body = {LOOP_BODY}>(turns, always, h)",
            18,
            "the graph's operator 'Loop' at 'y' loops, so its run may have no end; 'x' depends on it: export the model "
            "with the loop unrolled",
        ),
        (
            f"q = SequenceConstruct(h)\n m = SequenceMap<body = {MAP_BODY}>(q)\n y = SequenceAt(m, zero)",
            18,
            "the graph's operator 'SequenceMap' at 'm' loops, so its run may have no end; 'x' depends on it: export "
            "the model with the loop unrolled",
        ),
        (
            "y = com.microsoft.QuickGelu(h)",
            18,
            "the graph's operator 'QuickGelu' at 'y' is of 'com.microsoft', not ONNX's own; 'x' depends on it: export "
            "the model in ONNX's own operators, before a runtime optimises it",
        ),
    ],
)  # fmt: skip
def test_an_operator_that_stands_in_the_way_is_named_with_what_to_change(
    tmp_path: Path, capsys: Capture, nodes: str, opset: int, message: str
) -> None:
    path = write(tmp_path / "g.onnx", changed(TANH, "y = Tanh(h)", nodes), opset)
    twelve = {"scale": np.ones(12, np.float32), "shift": np.zeros(12, np.float32)}
    edited(path, lambda model: model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in twelve.items()))
    assert told(tmp_path, capsys) == f"decoder: {message}"


@pytest.mark.parametrize("opset", [7, 10, 12])
def test_dropout_of_old_sets_drops_nothing(tmp_path: Path, opset: int) -> None:
    write(tmp_path / "g.onnx", TANH.replace("y = Tanh(h)", "d, k = Dropout(h)\n y = Tanh(d)"), opset)
    assert bring(tmp_path, DESCRIBED) == 0
    assert_drawn(tmp_path)


def test_a_layer_that_passes_the_checker_and_does_not_run_is_named(tmp_path: Path, capsys: Capture) -> None:
    """Pooling over all four axes, as an exporter of channels-last pictures writes it."""
    text = (
        "g (float[N, 3] z) => (float[N, 3, 1, 1] x) { h = MatMul(z, w)\n r = Reshape(h, deep)\n "
        "p = MaxPool<kernel_shape = [1, 2, 2, 1], strides = [1, 2, 2, 1]>(r)\n y = Tanh(p)\n x = Reshape(y, flat) }"
    )
    shapes = {"deep": np.array([-1, 1, 3, 2, 2, 1]), "flat": np.array([-1, 3, 1, 1])}
    path = write(tmp_path / "g.onnx", text)
    edited(path, lambda model: model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in shapes.items()))
    edited(path, lambda model: setattr(model.graph.node[2], "name", "pool"))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert told(tmp_path, capsys) == (
        "decoder: onnxruntime cannot run batches of 64: MaxPool 'pool': Unsupported pooling size; a batch of 1 does "
        "not run either: export the layer from another framework or backend, or write it otherwise"
    )


def test_a_number_of_rows_that_is_fixed_inside_is_told_from_a_layer_that_never_runs(
    tmp_path: Path, capsys: Capture
) -> None:
    path = write(tmp_path / "g.onnx", TANH.replace("h = MatMul(z", "r = Reshape(z, one)\n h = MatMul(r"))
    edited(path, lambda model: model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3]), "one")))
    line = told(tmp_path, capsys)
    assert line.startswith("decoder: onnxruntime cannot run batches of 64: Reshape: ")
    assert "; a batch of 1 runs, so the number of rows is fixed inside of the graph: export it with a batch" in line
