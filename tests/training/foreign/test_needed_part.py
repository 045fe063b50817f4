"""What no named tensor needs is taken out of a foreign graph before anything is asked of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from training.foreign_models import (
    ENCODER,
    GAN,
    IMAGES,
    LATENTS,
    SIGMOID,
    TANH,
    VAE,
    WEIGHTS,
    bring,
    refusal,
    run,
    write,
)

Capture = pytest.CaptureFixture[str]

BERNOULLI = {**VAE, "likelihood": "bernoulli"}
DRAWING = ENCODER.replace("float[N, 3] s)", "float[N, 3] s, float[N, 3] z)").replace(
    " }", "\n n = RandomNormalLike(mu)\n z = Add(mu, n) }"
)
"""An encoder that gives the sample beside the posterior."""


def assert_posterior(folder: Path) -> None:
    found = run(folder, "encoder", IMAGES)
    expected = IMAGES.reshape(5, -1) @ WEIGHTS["v"]
    np.testing.assert_allclose(found["mean"], expected[:, :3], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["log_variance"], expected[:, 3:], rtol=0, atol=1e-5)


def test_a_sample_that_an_encoder_draws_beside_its_posterior_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", SIGMOID)
    write(tmp_path / "e.onnx", DRAWING)
    assert bring(tmp_path, BERNOULLI) == 0
    assert_posterior(tmp_path)


def test_an_input_that_only_what_is_left_out_needs_goes_too(tmp_path: Path) -> None:
    """Noise for the sample, which a caller of the posterior does not have."""
    write(tmp_path / "g.onnx", SIGMOID)
    noisy = DRAWING.replace("2, 2] a)", "2, 2] a, float[N, 3] n)").replace("n = RandomNormalLike(mu)\n ", "")
    write(tmp_path / "e.onnx", noisy)
    assert bring(tmp_path, BERNOULLI) == 0
    assert_posterior(tmp_path)


def test_what_onnx_does_not_have_and_nobody_needs_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH.replace(" }", "\n u = com.microsoft.Unknown(h)\n v = Erfc(h) }"))
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("named", ["mu", "s"])
def test_the_tensor_that_depends_on_noise_is_the_one_that_is_named(tmp_path: Path, capsys: Capture, named: str) -> None:
    write(tmp_path / "g.onnx", SIGMOID)
    noisy = ENCODER.replace("mu, s = Split", "k, l = Split").replace(
        " }", f"\n n = RandomNormalLike(k)\n {named} = Add({'k' if named == 'mu' else 'l'}, n)\n "
        f"{'s = Identity(l)' if named == 'mu' else 'mu = Identity(k)'} }}"
    )  # fmt: skip
    write(tmp_path / "e.onnx", noisy)
    code, said = refusal(tmp_path, capsys, BERNOULLI)
    assert code == 1
    assert said.startswith("encoder: the graph's operator 'RandomNormalLike' at 'n' ")
    assert f"; {named!r} depends on it: " in said


def test_what_a_branch_reads_from_outside_is_needed(tmp_path: Path) -> None:
    branch = "b () => (float[N, 12] o) { o = Tanh(h) }"
    write(
        tmp_path / "g.onnx",
        TANH.replace("y = Tanh(h)", f"y = If(always) <then_branch = {branch}, else_branch = {branch}>"),
    )
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)


def test_a_model_s_own_functions_are_written_out(tmp_path: Path) -> None:
    path = write(tmp_path / "g.onnx", TANH.replace("y = Tanh(h)", "y = mine.Squash(h)"))
    model = onnx.load(path)
    body = [helper.make_node("Tanh", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "Squash", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    onnx.save(model, path)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)


class DrawingEncoder(nn.Module):
    """A posterior and a sample of it, as a VAE's forward has them in training."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(12, 6)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.both(image.flatten(1)).chunk(2, dim=1)
        return mean + (log_variance / 2).exp() * torch.randn_like(mean), mean, log_variance


def test_an_encoder_that_torch_wrote_with_its_sample_is_served(tmp_path: Path) -> None:
    encoder = DrawingEncoder().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporter
        torch.onnx.export(encoder, (torch.rand(2, 3, 2, 2),), tmp_path / "e.onnx", input_names=["a"],
                          output_names=["z", "mu", "s"], dynamic_shapes=({0: torch.export.Dim("batch")},),
                          external_data=False, verbose=False)  # fmt: skip
    write(tmp_path / "g.onnx", SIGMOID)
    assert bring(tmp_path, BERNOULLI) == 0
    found = run(tmp_path, "encoder", IMAGES)
    with torch.no_grad():
        _, mean, log_variance = encoder(torch.from_numpy(IMAGES))
    np.testing.assert_allclose(found["mean"], mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["log_variance"], log_variance, rtol=0, atol=1e-5)
    manifest = json.loads((tmp_path / "models" / "m" / "1" / "manifest.json").read_text())
    assert {graph["role"] for graph in manifest["graphs"]} == {"GRAPH_ROLE_ENCODER", "GRAPH_ROLE_DECODER"}
