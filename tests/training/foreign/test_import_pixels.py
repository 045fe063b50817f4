"""Importing graphs whose images lie otherwise than a bundle's: layouts, ranges, bytes and other floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from training.foreign_models import (
    ENCODER,
    GAN,
    IMAGES,
    LATENTS,
    LINEAR,
    TANH,
    VAE,
    WEIGHTS,
    bring,
    refusal,
    run,
    write,
)

Capture = pytest.CaptureFixture[str]

RANGE = {"image_range": [-1, 1]}
LAST = TANH.replace("[N, 3, 2, 2] x", "[N, 2, 2, 3] x")
ROWS = LAST.replace("Reshape(y, shape)", "Reshape(y, last)")
"""Images with channels last, as a dense layer gives them."""
TURNED = LAST.replace("x = Reshape(y, shape)", "q = Reshape(y, shape)\n x = Transpose<perm = [0, 2, 3, 1]>(q)")
"""Images turned by a Transpose at the end, as tf2onnx exports convolutions."""


def opened(sides: str) -> str:
    """Images of these sides, of which the file says nothing, as Keras on PyTorch exports them."""
    shape = f"n = Shape<start = 0, end = 1>(z)\n s = Constant<value_ints = [{sides}]>()\n o = Concat<axis = 0>(n, s)\n "
    return TANH.replace("[N, 3, 2, 2] x", "[N, H, W, C] x").replace("{ h", f"{{ {shape}h").replace("y, shape", "y, o")


FLAT = TANH.replace("[N, 3, 2, 2] x", "[N, 12] x").replace("Reshape(y, shape)", "Identity(y)")
LAST_ENCODER = ENCODER.replace("[N, 3, 2, 2] a", "[N, 2, 2, 3] a")
GUESSED = (
    "latentserve-import: decoder: 'x' is [batch, 2, 2, 3], which was read as [batch, height, width, channels], "
    "`layout: nhwc`\n"
)


def drawn() -> NDArray[np.float32]:
    """What the decoders above draw, from 0 to 1, as flat rows."""
    return (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2


def card(folder: Path) -> str:
    return (folder / "models" / "m" / "1" / "CARD.md").read_text()


@pytest.mark.parametrize(
    ("graph", "described", "expected"),
    [
        (opened("2, 2, 3"), {}, drawn().reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)),
        (opened("2, 2, 3"), {"image_shape": [3, 2, 2]}, drawn().reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)),
        (ROWS, {}, drawn().reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)),
        (TURNED, {}, drawn().reshape(5, 3, 2, 2)),
        (ROWS, {"image_shape": [3, 2, 2]}, drawn().reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)),
        (ROWS, {"layout": "nhwc"}, drawn().reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)),
        (FLAT, {"layout": "nhwc", "image_shape": [3, 2, 2]}, drawn().reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)),
        (FLAT, {"layout": "nhwc", "image_shape": [1, 3, 4]}, drawn().reshape(5, 1, 3, 4)),
        (TANH, {"layout": "nchw"}, drawn().reshape(5, 3, 2, 2)),
    ],
)
def test_images_with_channels_last_get_them_first(
    tmp_path: Path, capsys: Capture, graph: str, described: dict[str, Any], expected: NDArray[np.float32]
) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, {**GAN, **RANGE, **described}) == 0
    guessed = "layout" not in described
    assert capsys.readouterr().err == (GUESSED if guessed else "")
    assert ("which was read as [batch, height, width, channels]" in card(tmp_path)) == guessed
    found = run(tmp_path, "decoder", LATENTS)
    np.testing.assert_allclose(found["image"], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found["image_uint8"], np.rint(255 * found["image"]).astype(np.uint8))


def test_a_transpose_that_undoes_the_graph_s_own_is_not_run(tmp_path: Path) -> None:
    """onnxruntime drops both; one that undoes nothing stays."""
    for name, graph, left in (("t", TURNED, 0), ("r", ROWS, 1)):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "g.onnx", graph)
        assert bring(folder, {**GAN, **RANGE, "layout": "nhwc"}) == 0
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        onnxruntime.InferenceSession(
            folder / "models" / "m" / "1" / "decoder.onnx", options, providers=["CPUExecutionProvider"]
        )
        nodes = onnx.load(folder / "optimized.onnx").graph.node
        assert [node.op_type for node in nodes].count("Transpose") == left


@pytest.mark.parametrize("described", [{}, {"layout": "nhwc"}])
def test_an_encoder_gets_channels_last(tmp_path: Path, capsys: Capture, described: dict[str, Any]) -> None:
    """Beside a decoder that has them first where nothing is said: each graph is understood by itself."""
    write(tmp_path / "g.onnx", ROWS if described else TANH)
    write(tmp_path / "e.onnx", LAST_ENCODER)
    vae = {**VAE, **RANGE, "likelihood": "gaussian", "log_scale": 0.0, "prior": "standard_normal"}
    assert bring(tmp_path, {**vae, **described}) == 0
    assert capsys.readouterr().err == ("" if described else GUESSED.replace("decoder: 'x'", "encoder: 'a'"))
    rows = (2 * IMAGES - 1).transpose(0, 2, 3, 1).reshape(5, -1)
    mean = run(tmp_path, "encoder", IMAGES)["mean"]
    np.testing.assert_allclose(mean, (rows @ WEIGHTS["v"])[:, :3], rtol=0, atol=1e-5)


def test_a_likelihood_s_tensor_lies_as_the_images_do(tmp_path: Path) -> None:
    """Here as flat rows, where the image has an axis for each side; half a log-variance is a log-scale."""
    two = ROWS.replace("[N, 2, 2, 3] x)", "[N, 2, 2, 3] x, float[N, 12] v)").replace(" }", "\n v = Neg(h) }")
    write(tmp_path / "g.onnx", two)
    write(tmp_path / "e.onnx", LAST_ENCODER)
    decoder = {"file": "g.onnx", "image": "x", "log_variance": "v"}
    assert bring(tmp_path, {**VAE, **RANGE, "layout": "nhwc", "likelihood": "gaussian", "decoder": decoder}) == 0
    expected = (-LATENTS @ WEIGHTS["w"] / 2 - np.log(2)).reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(tmp_path, "decoder", LATENTS)["log_scale"], expected, rtol=0, atol=1e-5)


def test_logits_lie_as_the_images_do(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", ROWS.replace("y = Tanh(h)\n x = Reshape(y", "x = Reshape(h"))
    write(tmp_path / "e.onnx", LAST_ENCODER)
    decoder = {"file": "g.onnx", "logits": "x"}
    assert bring(tmp_path, {**VAE, "layout": "nhwc", "likelihood": "bernoulli", "decoder": decoder}) == 0
    expected = (LATENTS @ WEIGHTS["w"]).reshape(5, 2, 2, 3).transpose(0, 3, 1, 2)
    found = run(tmp_path, "decoder", LATENTS)
    assert list(found) == ["image", "image_uint8", "logits"]
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["image"], 1 / (1 + np.exp(-found["logits"])), rtol=0, atol=1e-6)


def test_pixels_beyond_the_range_are_clipped_where_that_is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", LINEAR)
    assert bring(tmp_path, {**GAN, **RANGE, "clip": True}) == 0
    own = np.random.default_rng(0).standard_normal((64, 3), dtype=np.float32) @ WEIGHTS["w"]
    told = (
        f"decoder: {100 * (np.abs(own) > 1).mean():.2g} % of the pixel values of 64 images lie beyond image_range "
        f"[-1, 1] and are clipped; they run from {own.min():.4g} to {own.max():.4g}"
    )
    assert capsys.readouterr().err == f"latentserve-import: {told}\n"
    assert f"- {told}.\n" in card(tmp_path)
    found = run(tmp_path, "decoder", LATENTS)["image"]
    expected = ((LATENTS @ WEIGHTS["w"] + 1) / 2).clip(0, 1)
    np.testing.assert_allclose(found.reshape(5, -1), expected, rtol=0, atol=1e-6)


def test_where_nothing_is_clipped_the_import_says_so(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, **RANGE, "clip": True}) == 0
    assert "no pixel of 64 images lies beyond image_range [-1, 1]; none was clipped" in capsys.readouterr().err


def test_pixels_from_0_to_255_are_scaled(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH.replace("y = Tanh(h)", "t = Sigmoid(h)\n y = Mul(t, most)"))
    write(tmp_path / "e.onnx", ENCODER.replace("r = Flatten(a)", "f = Flatten(a)\n r = Div(f, most)"))
    vae = {**VAE, "image_range": [0, 255], "likelihood": "gaussian", "log_scale": 3.0}
    assert bring(tmp_path, vae) == 0
    found = run(tmp_path, "decoder", LATENTS)
    expected = 1 / (1 + np.exp(-LATENTS @ WEIGHTS["w"]))
    np.testing.assert_allclose(found["image"].reshape(5, -1), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["log_scale"], np.full((5, 3, 2, 2), 3 - np.log(255)), rtol=0, atol=1e-6)
    mean = run(tmp_path, "encoder", IMAGES)["mean"]
    np.testing.assert_allclose(mean, (IMAGES.reshape(5, -1) @ WEIGHTS["v"])[:, :3], rtol=0, atol=1e-5)


BYTES = "t = Sigmoid(h)\n m = Mul(t, most)\n r = Round(m)\n y = Cast<to = 2>(r)"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("described", [{}, {"image_range": [0, 255]}])
def test_a_decoder_may_give_bytes(tmp_path: Path, capsys: Capture, last: bool, described: dict[str, list[int]]) -> None:
    graph = (ROWS if last else TANH).replace("y = Tanh(h)", BYTES).replace("float[N, 2, 2", "uint8[N, 2, 2")
    write(tmp_path / "g.onnx", graph.replace("float[N, 3, 2, 2]", "uint8[N, 3, 2, 2]"))
    assert bring(tmp_path, {**GAN, **described, **({"layout": "nhwc"} if last else {})}) == 0
    assert "decoder: cast from or to float32: 'x' (uint8); the largest difference from the file is " in (
        capsys.readouterr().err
    )
    own = np.rint(255 / (1 + np.exp(-LATENTS @ WEIGHTS["w"])))
    levels = own.reshape(5, 2, 2, 3).transpose(0, 3, 1, 2) if last else own.reshape(5, 3, 2, 2)
    found = run(tmp_path, "decoder", LATENTS)
    np.testing.assert_array_equal(found["image_uint8"], levels)
    np.testing.assert_allclose(found["image"], levels / 255, rtol=0, atol=1e-6)


def test_an_encoder_may_take_bytes(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    into = "f = Cast<to = 1>(a)\n s = Div(f, most)\n r = Flatten(s)"
    graph = ENCODER.replace("float[N, 3, 2, 2] a", "uint8[N, 3, 2, 2] a").replace("r = Flatten(a)", into)
    write(
        tmp_path / "e.onnx", graph.replace("float[N, 3] s)", "float[N, 3] k)").replace("mu, s = Split", "mu, k = Split")
    )
    # The decoder's range is its own: bytes are from 0 to 255 unless it is said otherwise.
    encoder = {"file": "e.onnx", "mean": "mu", "log_variance": "k"}
    sigmoid = TANH.replace("Tanh", "Sigmoid")
    write(tmp_path / "g.onnx", sigmoid)
    assert bring(tmp_path, {**VAE, "encoder": encoder, "likelihood": "bernoulli"}) == 0
    mean = run(tmp_path, "encoder", IMAGES)["mean"]
    levels = np.rint(255 * IMAGES) / 255
    np.testing.assert_allclose(mean, (levels.reshape(5, -1) @ WEIGHTS["v"])[:, :3], rtol=0, atol=1e-5)


FLOATS = {"float16": 10, "double": 11}


@pytest.mark.parametrize("kind", FLOATS)
def test_other_floats_are_cast_and_the_difference_is_told(tmp_path: Path, capsys: Capture, kind: str) -> None:
    name = {"double": "float64"}.get(kind, kind)
    decoder = TANH.replace("float[", f"{kind}[").replace(
        "h = MatMul(z, w)", f"q = Cast<to = {FLOATS[kind]}>(w)\n h = MatMul(z, q)"
    )
    encoder = ENCODER.replace("float[", f"{kind}[").replace(
        "p = MatMul(r, v)", f"q = Cast<to = {FLOATS[kind]}>(v)\n p = MatMul(r, q)"
    )
    write(tmp_path / "g.onnx", decoder)
    write(tmp_path / "e.onnx", encoder)
    vae = {**VAE, **RANGE, "likelihood": "gaussian", "log_scale": 0.0, "prior": "standard_normal"}
    assert bring(tmp_path, vae) == 0
    told = capsys.readouterr().err
    for cast in (f"decoder: cast from or to float32: 'z' ({name}), 'x' ({name})",
                 f"encoder: cast from or to float32: 'a' ({name}), 'mu' ({name}), 's' ({name})"):  # fmt: skip
        assert f"latentserve-import: {cast}; the largest difference from the file is " in told
        assert f"- {cast}.\n" in card(tmp_path)
    precision = 2e-3 if kind == "float16" else 1e-6
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), drawn(), rtol=0, atol=precision)
    posterior = run(tmp_path, "encoder", IMAGES)
    expected = (2 * IMAGES - 1).reshape(5, -1) @ WEIGHTS["v"]
    np.testing.assert_allclose(posterior["mean"], expected[:, :3], rtol=0, atol=precision)
    np.testing.assert_allclose(posterior["log_variance"], expected[:, 3:], rtol=0, atol=precision)


@pytest.mark.parametrize(
    ("graph", "described", "message"),
    [
        (
            TANH.replace("y = Tanh(h)", "m = Log(h)\n y = Tanh(m)"),
            {"clip": True},
            "decoder: 'x' is NaN (not a number) somewhere in 64 of 64 rows drawn to check it; a server serves finite "
            "numbers alone",
        ),
        (
            TANH.replace("y = Tanh(h)", "t = Constant<value_ints = [1, 100]>()\n q = Tile(h, t)\n y = Tanh(q)")
            .replace("[N, 3, 2, 2]", "[N, 1200, 1, 1]")
            .replace("y, shape", "y, thousand"),
            {"layout": "nchw"},
            "decoder: 'x' has 1200 channels first; it must be 1 to 1,024",
        ),
        (
            opened("2, 2, 3"),
            {"image_shape": [3, 2, 2], "layout": "nchw"},
            "decoder: 'x' is [batch, 2, 2, 3], which is not image_shape [3, 2, 2]",
        ),
        (
            opened("3, 2, 2"),
            {"image_shape": [3, 2, 2], "layout": "nhwc"},
            "decoder: 'x' is [batch, 3, 2, 2], which is not image_shape [3, 2, 2] with channels last",
        ),
        (
            TANH,
            {"layout": "nhwc", "image_shape": [3, 2, 2]},
            "decoder: 'x' is [batch, 3, 2, 2], which is not image_shape [3, 2, 2] with channels last",
        ),
        (ROWS, {"image_shape": [1, 4, 3]}, "decoder: 'x' is [batch, 2, 2, 3], which is not image_shape [1, 4, 3]"),
        (
            TANH.replace("float[N, 3, 2, 2]", "int64[N, 3, 2, 2]").replace("y = Tanh(h)", "y = Cast<to = 7>(h)"),
            {},
            "decoder: 'x' is int64; it must be float32, float16, float64 or uint8",
        ),
        (
            TANH.replace("float[N, 3, 2, 2]", "uint8[N, 3, 2, 2]").replace("y = Tanh(h)", BYTES),
            {},
            "decoder: 'x' is uint8, but image_range is [-1, 1]",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: Capture, graph: str, described: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", graph)
    assert refusal(tmp_path, capsys, {**GAN, **RANGE, **described}) == (1, message)


def test_an_encoder_may_read_flat_rows_with_more_axes(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", ENCODER.replace("[N, 3, 2, 2] a", "[N, 12, 1, 1] a"))
    assert bring(tmp_path, {**VAE, **RANGE, "likelihood": "gaussian", "log_scale": 0.0}) == 0
    mean = run(tmp_path, "encoder", IMAGES)["mean"]
    np.testing.assert_allclose(mean, (2 * IMAGES - 1).reshape(5, -1) @ WEIGHTS["v"][:, :3], rtol=0, atol=1e-5)


def test_an_encoder_of_another_shape_is_refused(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", ENCODER.replace("[N, 3, 2, 2] a", "[N, 4, 3, 1] a"))
    assert bring(tmp_path, {**VAE, **RANGE, "likelihood": "gaussian", "log_scale": 0.0}) == 1
    assert "'a' is [batch, 4, 3, 1], but the decoder's image is [3, 2, 2] with its channels first" in (
        capsys.readouterr().err
    )
