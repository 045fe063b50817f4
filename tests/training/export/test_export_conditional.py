"""Bundles of conditional models and of likelihoods beside Bernoulli: what their graphs take and give, against torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from google.protobuf.json_format import Parse
from safetensors.numpy import load_file

from latentserve.v1 import bundle_pb2, tensor_pb2
from latentserve_server.bundle.bundle import read_bundle
from latentserve_training import commands
from latentserve_training.models import Vae
from latentserve_training.run.trained_model import TrainedModel

CONV = ("--model.latent_dim", "8", "--model.narrow", "8", "--model.wide", "8", "--model.dense", "16")
MODELS = {
    "cvae": ("--model.family", "cvae", *CONV),
    "cgan": ("--model.family", "cgan", "--model.latent_dim", "8", "--model.min_diversity", "0"),
    "gaussian": ("--model.family", "mlp_vae", "--model.likelihood", "gaussian"),
    "discretized_logistic": ("--model.family", "conv_vae", *CONV, "--model.likelihood", "discretized_logistic"),
}
CONDITIONAL = ("cvae", "cgan")
SCALED = ("gaussian", "discretized_logistic")
ROWS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[TrainedModel, Path]]:
    """A model of one epoch and its bundle, both made by the commands, once."""
    folder = tmp_path_factory.mktemp("conditional")
    done: dict[str, tuple[TrainedModel, Path]] = {}

    def make(name: str) -> tuple[TrainedModel, Path]:
        if name not in done:
            size = ("--data.size", "8", "--trainer.epochs", "1", "--trainer.precision", "float32")
            assert commands.train([*MODELS[name], *size, "--output", str(folder / name)]) == 0
            assert commands.export([str(folder / name), "--repository", str(folder), "--name", f"{name}-served"]) == 0
            done[name] = TrainedModel.load(folder / name), folder / f"{name}-served" / "1"
        return done[name]

    return make


def graph(bundle: Path, role: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundle / f"{role}.onnx", providers=["CPUExecutionProvider"])


Made = Callable[[str], tuple[TrainedModel, Path]]


@pytest.mark.parametrize("name", MODELS)
def test_a_server_s_own_reader_accepts_the_bundle(made: Made, name: str) -> None:
    trained, place = made(name)
    bundle = read_bundle(place)
    encoder = {bundle_pb2.GRAPH_ROLE_ENCODER} if isinstance(trained.model, Vae) else set()
    assert bundle.graphs.keys() == {bundle_pb2.GRAPH_ROLE_DECODER} | encoder
    assert bundle.manifest.labels.count == (10 if name in CONDITIONAL else 0)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_manifest_tells_the_labels_and_each_graph_takes_them(made: Made, name: str) -> None:
    _, bundle = made(name)
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert (manifest.labels.count, list(manifest.labels.names)) == (10, [str(digit) for digit in range(10)])
    for entry in manifest.graphs:
        label = entry.inputs[1]
        assert (label.name, label.dtype, list(label.shape)) == ("label", tensor_pb2.DTYPE_INT64, [])
    card = (bundle / "CARD.md").read_text()
    assert "and one of 10 labels (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)." in card
    assert ", `label` [batch] |" in card


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_label_says_what_is_drawn(made: Made, name: str) -> None:
    trained, bundle = made(name)
    latents = trained.latents(1, seed=3).repeat(ROWS, 1)
    labels = np.arange(ROWS, dtype=np.int64)[::-1] % 10
    drawn, *_ = graph(bundle, "decoder").run(["image"], {"latent": latents.numpy(), "label": labels})
    expected = trained.model.decode(latents, torch.from_numpy(labels.copy())).numpy()
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-5)
    assert np.array_equal(drawn[0], drawn[10]), "rows 0 and 10 have the same label"
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4


def test_a_label_is_part_of_what_is_encoded(made: Made) -> None:
    trained, bundle = made("cvae")
    assert isinstance(trained.model, Vae)
    images = np.repeat(trained.dataset(None).test.images[:1].astype(np.float32) / 255, ROWS, axis=0)
    labels = np.arange(ROWS, dtype=np.int64) % 10
    mean, log_variance = graph(bundle, "encoder").run(["mean", "log_variance"], {"image": images, "label": labels})
    expected = trained.model.encode(torch.from_numpy(images), torch.from_numpy(labels))
    np.testing.assert_allclose(mean, expected.mean.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(log_variance, expected.log_variance.numpy(), rtol=0, atol=1e-5)
    assert np.abs(mean[0] - mean[1]).max() > 1e-4


@pytest.mark.parametrize("name", CONDITIONAL)
def test_golden_rows_hold_labels(made: Made, name: str) -> None:
    _, bundle = made(name)
    golden = load_file(bundle / "golden.safetensors")
    assert golden["decoder.label"].dtype == np.int64
    assert list(golden["decoder.label"]) == list(range(8))
    found = graph(bundle, "decoder").run(
        ["image"], {"latent": golden["decoder.latent"], "label": golden["decoder.label"]}
    )
    np.testing.assert_allclose(found[0], golden["decoder.image"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SCALED)
def test_a_scaled_likelihood_gives_the_logarithm_of_its_scale(made: Made, name: str) -> None:
    trained, bundle = made(name)
    assert isinstance(trained.model, Vae)
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert bundle_pb2.Likelihood.Name(manifest.likelihood) == f"LIKELIHOOD_{name.upper()}"
    latents = trained.latents(ROWS, seed=5)
    image, log_scale = graph(bundle, "decoder").run(["image", "log_scale"], {"latent": latents.numpy()})
    expected = trained.model.decode_parameters(latents)
    assert expected.log_scale is not None
    np.testing.assert_allclose(image, expected.mean.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(log_scale, expected.log_scale.numpy(), rtol=0, atol=1e-6)
    assert log_scale.shape == image.shape
