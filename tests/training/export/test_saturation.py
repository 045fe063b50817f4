"""Saturated pixels of exported graphs: onnxruntime's Sigmoid and Tanh exceed 1 where torch's do not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from latentserve_training.export.graphs import plan_graphs
from latentserve_training.export.torch_to_onnx import export_graph
from latentserve_training.models import MlpGanConfig, MlpVaeConfig, build
from latentserve_training.models.model import GenerativeModel

SHAPE = (1, 2, 5)
LOGITS = np.array([17.844, 17.857412, 17.868923, 17.87294, 17.89196, 17.89684, 20, 100, -20, -100], np.float32)
"""The first six are where the Sigmoid of onnxruntime 1.31 is 1 + 2^-23; neighbours of them are 1."""
MODELS = {
    "bernoulli": MlpVaeConfig(wide=4, narrow=4),
    "gaussian": MlpVaeConfig(wide=4, narrow=4, likelihood="gaussian"),
    "discretized_logistic": MlpVaeConfig(wide=4, narrow=4, likelihood="discretized_logistic"),
    "gan": MlpGanConfig(latent_dim=2, generator_width=4, discriminator_width=4),
}


def saturated(config: MlpVaeConfig | MlpGanConfig) -> GenerativeModel:
    """A model that draws LOGITS whatever its latents are."""
    model = build(config, SHAPE).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    (last,) = (layer for layer in layers if layer.out_features == math.prod(SHAPE))
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.from_numpy(LOGITS))
    return model


def exported(model: GenerativeModel, path: Path) -> onnxruntime.InferenceSession:
    """The decoder, written and opened."""
    images: Tensor = torch.rand(64, *SHAPE)
    *_, decoder = plan_graphs(model, images, torch.randn(64, 2))
    export_graph(decoder, path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_saturated_pixels_lie_within_the_range_and_nan_is_seen(
    config: MlpVaeConfig | MlpGanConfig, tmp_path: Path
) -> None:
    session = exported(saturated(config), tmp_path / "decoder.onnx")
    latents = np.array([[0, 1], [3, -2], [np.nan, 0]], np.float32)
    image, levels, *beside = session.run(None, {"latent": latents})
    np.testing.assert_array_equal(image[:2], image[:1].repeat(2, axis=0))
    assert image[0].ravel()[:8].tolist() == [1.0] * 8
    assert 0 <= image[0].min() < 1e-8
    assert levels[0].ravel().tolist() == [255] * 8 + [0] * 2
    assert np.isnan(image[2]).all()
    if config.family == "mlp_vae" and config.likelihood == "bernoulli":
        np.testing.assert_array_equal(beside[0][0].ravel(), LOGITS)
