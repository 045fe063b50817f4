"""The whole path with real parts: train on digits, export, serve in a process of its own, call, compare with torch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from latentserve_client import Client, FailedPreconditionError
from latentserve_server.noise import NoiseSource, Stream
from latentserve_training.trained import Trained

BIN = Path(sys.executable).parent
TOLERANCE = 1e-5


def run(command: str, *arguments: object) -> None:
    subprocess.run([BIN / command, *map(str, arguments)], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two epochs of a VAE and of a GAN on digits."""
    folder = tmp_path_factory.mktemp("runs")
    for family in ("conv_vae", "mlp_gan"):
        config = Path("training/latentserve_training/configs") / f"{family}_digits.yaml"
        run("latentserve-train", "--config", config, "--trainer.epochs", 2, "--output", folder / family)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def repository(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for path in runs.values():
        run("latentserve-export", path, "--repository", folder)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[str]:
    """The address of a server process over the exported bundles; SIGTERM must end it with exit status 0."""
    arguments = ["--repository", repository, "--listen", "127.0.0.1:0", "--metrics-listen", "off"]
    with subprocess.Popen([BIN / "latentserve-server", *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        records = (json.loads(line) for line in process.stderr)
        port = next((record["port"] for record in records if "metrics_port" in record), 0)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server) as opened:
        yield opened


@pytest.mark.parametrize("family", ["conv_vae", "mlp_gan"])
def test_samples_are_the_trained_models_own(client: Client, runs: dict[str, Path], family: str) -> None:
    trained = Trained.load(runs[family])
    sampled = client.sample(family, 100, seed=7)
    latents = NoiseSource().draw(7, 0, 100, trained.model.latent_dim, Stream.PRIOR)
    with torch.no_grad():
        expected = trained.model.decode(torch.from_numpy(latents.copy())).numpy()
    assert sampled.images.shape == (100, 1, 28, 28)
    np.testing.assert_allclose(sampled.images, expected, atol=TOLERANCE)


def test_a_slice_of_a_seed_is_the_same_images(client: Client) -> None:
    whole = client.sample("mlp_gan", 100, seed=7).images
    part = client.sample("mlp_gan", 10, seed=7, first_index=10).images
    assert np.array_equal(whole[10:20], part)


def test_encoding_and_reconstructing_agree_with_torch(client: Client, runs: dict[str, Path]) -> None:
    trained = Trained.load(runs["conv_vae"])
    images = trained.dataset(None).test.images[:50]
    posterior = client.encode("conv_vae", images)
    reconstruction = client.reconstruct("conv_vae", images)
    with torch.no_grad():
        expected = trained.model.encode(torch.from_numpy(images).float() / 255)
        decoded = trained.model.decode(expected.mean)
    np.testing.assert_allclose(posterior.mean, expected.mean.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(posterior.log_variance, expected.log_variance.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(reconstruction.images, decoded.numpy(), atol=TOLERANCE)
    assert (reconstruction.reconstruction_error > 0).all()
    assert (reconstruction.kl > 0).all()


def test_decoding_what_was_encoded_is_reconstructing(client: Client, runs: dict[str, Path]) -> None:
    images = Trained.load(runs["conv_vae"]).dataset(None).test.images[:8]
    means = client.encode("conv_vae", images).mean
    assert np.array_equal(client.decode("conv_vae", means).images, client.reconstruct("conv_vae", images).images)


def test_a_gan_has_no_encoder(client: Client) -> None:
    with pytest.raises(FailedPreconditionError, match="mlp_gan"):
        client.encode("mlp_gan", np.zeros((1, 1, 28, 28), np.float32))


def test_the_description_is_the_manifest(client: Client, repository: Path) -> None:
    info = client.model("conv_vae")
    manifest = json.loads((repository / "conv_vae" / "1" / "manifest.json").read_text())
    assert (info.name, info.version, info.latent_dim, info.device) == ("conv_vae", 1, 256, "cpu")
    assert info.manifest.provenance.dataset_sha256 == manifest["provenance"]["dataset_sha256"]
