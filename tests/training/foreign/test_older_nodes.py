"""Importing files of older operator sets: what is served is what onnxruntime draws from the file as it lies."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from training.foreign_models import ENCODER, GAN, LATENTS, VAE, WEIGHTS, bring, run, write

from latentserve.onnx.graph_rule import OPSETS

FOURFOLD, QUARTER_MORE, FEWER, BOTH_WAYS = (1, 1, 4, 4), (1, 1, 1.25, 1.25), (1, 1, 0.75, 0.75), (1, 1, 1.7, 0.6)
SIDES = {FOURFOLD: (16, 16), QUARTER_MORE: (5, 5), FEWER: (3, 3), BOTH_WAYS: (6, 2)}


def resized(folder: Path, node: str, opset: int, scales: tuple[float, ...], drawn: str = "Sigmoid") -> Path:
    """A decoder of images 4x4 that the node, of r and perhaps of scales, brings to another size."""
    height, width = SIDES[scales]
    text = (
        f"g (float[N, 3] z) => (float[N, 1, {height}, {width}] x) "
        f"{{ l = MatMul(z, weights)\n r = Reshape(l, sides)\n u = {node}\n x = {drawn}(u) }}"
    )
    path = write(folder / "g.onnx", text, opset)
    model = onnx.load(path)
    constants = {
        "weights": np.random.default_rng(3).standard_normal((3, 16), dtype=np.float32),
        "sides": np.array([-1, 1, 4, 4]),
        "scales": np.array(scales, np.float32),
    }
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(constants[name], name) for name in used & {*constants})
    onnx.save(model, path)
    return path


def drawn_by(path: Path) -> NDArray[np.float32]:
    """What the user sees who opens the file and draws."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {session.get_inputs()[0].name: LATENTS})
    return np.asarray(images)


@pytest.mark.parametrize(
    ("node", "opset", "scales"),
    [
        ('Upsample<mode = "linear", scales = [1.0, 1.0, 4.0, 4.0]>(r)', 7, FOURFOLD),
        ('Upsample<mode = "linear">(r, scales)', 9, FOURFOLD),
        ('Upsample<mode = "nearest">(r, scales)', 9, QUARTER_MORE),
        ('Resize<mode = "linear">(r, scales)', 10, FOURFOLD),
        ('Resize<mode = "linear">(r, scales)', 10, FEWER),
        ('Resize<mode = "linear">(r, scales)', 10, BOTH_WAYS),
        ('Resize<mode = "nearest">(r, scales)', 10, QUARTER_MORE),
        ('Resize<mode = "nearest">(r, scales)', 10, FEWER),
        ('Resize<mode = "nearest">(r, scales)', 10, BOTH_WAYS),
        ("Resize(r, scales)", 10, QUARTER_MORE),
    ],
)
def test_what_resized_pictures_draws_as_its_file_does(
    tmp_path: Path, node: str, opset: int, scales: tuple[float, ...]
) -> None:
    path = resized(tmp_path, node, opset, scales)
    assert bring(tmp_path, GAN) == 0
    np.testing.assert_allclose(run(tmp_path, "decoder", LATENTS)["image"], drawn_by(path), rtol=0, atol=1e-6)


class Enlarging(nn.Module):
    """A decoder that makes 16x16 of 4x4 and goes on from there."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.first = nn.Linear(3, 32)
        self.rest = nn.Sequential(nn.Upsample(scale_factor=4, mode=mode), nn.Conv2d(2, 3, 3), nn.Sigmoid())

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.rest(self.first(latent).view(-1, 2, 4, 4)))


@pytest.mark.parametrize("opset", [9, 10, 11])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_decoder_that_torch_wrote_draws_as_its_file_does(tmp_path: Path, opset: int, mode: str) -> None:
    torch.manual_seed(opset)
    decoder = Enlarging(mode).eval()
    path = tmp_path / "g.onnx"
    axes = {"z": {0: "batch"}, "x": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that such exports are old
        torch.onnx.export(decoder, (torch.zeros(2, 3),), path, input_names=["z"], output_names=["x"],
                          dynamic_axes=axes, opset_version=opset, dynamo=False)  # fmt: skip
    assert bring(tmp_path, GAN) == 0
    np.testing.assert_allclose(run(tmp_path, "decoder", LATENTS)["image"], drawn_by(path), rtol=0, atol=1e-6)


def test_logits_inside_of_an_older_decoder_are_those_of_the_file(tmp_path: Path) -> None:
    path = resized(tmp_path, 'Upsample<mode = "linear">(r, scales)', 9, FOURFOLD)
    write(tmp_path / "e.onnx", ENCODER.replace("3, 2, 2] a", "1, 16, 16] a").replace("MatMul(r, v)", "MatMul(r, wide)"))
    model = onnx.load(tmp_path / "e.onnx")
    wide = np.random.default_rng(4).standard_normal((256, 6), dtype=np.float32) / 16
    model.graph.initializer.append(onnx.numpy_helper.from_array(wide, "wide"))
    onnx.save(model, tmp_path / "e.onnx")
    assert bring(tmp_path, {**VAE, "likelihood": "bernoulli"}) == 0
    images = drawn_by(path).astype(np.float64)
    found = run(tmp_path, "decoder", LATENTS)["logits"]
    np.testing.assert_allclose(found, np.log(images / (1 - images)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("opset", OPSETS)
def test_a_decoder_of_any_operator_set_keeps_its_set_and_its_numbers(tmp_path: Path, opset: int) -> None:
    """With labels as one-hot rows and flat images: what is put around it is there in every set."""
    text = (
        "g (float[N, 3] z, float[N, 4] c) => (float[N, 12] x) "
        "{ h = MatMul(z, w)\n e = MatMul(c, table)\n m = Add(h, e)\n x = Sigmoid(m) }"
    )
    write(tmp_path / "g.onnx", text, opset)
    described = {**GAN, "decoder": {"file": "g.onnx", "label": "c"}, "labels": 4, "image_shape": [3, 2, 2]}
    assert bring(tmp_path, described) == 0
    labels = np.array([3, 0, 2, 1, 3])
    found = run(tmp_path, "decoder", LATENTS, labels)
    expected = 1 / (1 + np.exp(-(LATENTS @ WEIGHTS["w"] + WEIGHTS["table"][labels])))
    np.testing.assert_allclose(found["image"].reshape(5, -1), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found["image_uint8"], np.rint(255 * found["image"]).astype(np.uint8))
    written = onnx.load(tmp_path / "models" / "m" / "1" / "decoder.onnx")
    assert [entry.version for entry in written.opset_import] == [opset]


def test_halves_are_rounded_to_even_in_old_sets_as_in_new_ones(tmp_path: Path) -> None:
    """Pixels of half a level, which float32 holds exactly behind a range of 0 to 255."""
    halves = (
        "g (float[N, 1] z) => (float[N, 1, 1, 4] x) "
        "{ n = MatMul(z, nothing)\n m = Add(n, levels)\n x = Reshape(m, row) }"
    )
    path = write(tmp_path / "g.onnx", halves, 7)
    model = onnx.load(path)
    constants = {
        "nothing": np.zeros((1, 4), np.float32),
        "levels": np.array([0.5, 1.5, 126.5, 253.5], np.float32),
        "row": np.array([-1, 1, 1, 4]),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, path)
    assert bring(tmp_path, {**GAN, "latent_dim": 1, "image_range": [0, 255]}) == 0
    found = run(tmp_path, "decoder", LATENTS[:, :1])
    np.testing.assert_array_equal(found["image_uint8"], np.rint(255 * found["image"]).astype(np.uint8))
