"""The whole path with real parts: train on digits, evaluate, export, serve in another process, call, compare."""

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
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_training import commands
from latentserve_training.models.losses import gaussian_kl
from latentserve_training.run.trained_model import TrainedModel

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
TOLERANCE = 1e-5


COMMANDS = {
    "latentserve-train": commands.train,
    "latentserve-evaluate": commands.evaluate,
    "latentserve-export": commands.export,
}


def run(command: str, *arguments: object) -> None:
    """A command as it is typed: in a process, which imports PyTorch for seconds."""
    subprocess.run([BIN / command, *map(str, arguments)], check=True, capture_output=True, text=True)


def run_here(command: str, *arguments: object) -> None:
    """The same in this process, for models that come after one that was made by processes."""
    assert COMMANDS[command]([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two epochs of small VAEs and GANs on digits, of which some are evaluated as well; the demo takes large ones."""
    folder = tmp_path_factory.mktemp("runs")
    small = ("--model.narrow", 8, "--model.wide", 16, "--model.dense", 32)
    families = (
        ("conv_vae", "conv_vae", run, small),
        ("maps", "conv_vae", run_here, (*small, "--model.latent_shape", "[3, 2, 2]")),
        ("cvae", "cvae", run_here, small),
        ("dcgan", "dcgan", run_here, ("--model.width", 8, "--model.dense", 32, "--model.min_diversity", 0)),
    )
    for name, family, train, more in families:
        config = Path("training/latentserve_training/configs") / f"{family}_digits.yaml"
        shortened = ("--data.size", 8, "--trainer.epochs", 2, *more)
        train("latentserve-train", "--config", config, *shortened, "--output", folder / name)
    quick = ("--quick", "--samples", 100, "--classifier-steps", 1)
    run("latentserve-evaluate", folder / "cvae", *quick)
    for name in ("maps", "dcgan"):
        run_here("latentserve-evaluate", folder / name, *quick)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def repository(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, path in runs.items():
        export = run if name == "conv_vae" else run_here
        export("latentserve-export", path, "--repository", folder, "--name", name)
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


@pytest.mark.parametrize("family", ["conv_vae", "maps", "dcgan"])
def test_samples_are_the_trained_models_own(client: Client, runs: dict[str, Path], family: str) -> None:
    trained = TrainedModel.load(runs[family])
    sampled = client.sample(family, 100, seed=7)
    latents = NoiseSource().draw(7, 0, 100, trained.model.latent_dim, Stream.PRIOR)
    with torch.no_grad():
        expected = trained.model.decode(torch.from_numpy(latents.copy())).numpy()
    assert sampled.images.shape == (100, *trained.model.image_shape)
    np.testing.assert_allclose(sampled.images, expected, atol=TOLERANCE)


def test_a_slice_of_a_seed_is_the_same_images(client: Client) -> None:
    whole = client.sample("dcgan", 100, seed=7).images
    part = client.sample("dcgan", 10, seed=7, first_index=10).images
    assert np.array_equal(whole[10:20], part)


def test_encoding_and_reconstructing_agree_with_torch(client: Client, runs: dict[str, Path]) -> None:
    trained = TrainedModel.load(runs["conv_vae"])
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
    images = TrainedModel.load(runs["conv_vae"]).dataset(None).test.images[:8]
    means = client.encode("conv_vae", images).mean
    assert np.array_equal(client.decode("conv_vae", means).images, client.reconstruct("conv_vae", images).images)


def test_image_shaped_latents_go_out_and_in_as_maps_in_row_major_order(client: Client, runs: dict[str, Path]) -> None:
    trained = TrainedModel.load(runs["maps"])
    images = trained.dataset(None).test.images[:8]
    posterior = client.encode("maps", images)
    with torch.no_grad():
        expected = trained.model.encode(torch.from_numpy(images).float() / 255)
        decoded = trained.model.decode(expected.mean).numpy()
    for found, rows in zip((posterior.mean, posterior.log_variance), expected, strict=True):
        assert found.shape == (8, 3, 2, 2)
        np.testing.assert_allclose(found, rows.view(8, 3, 2, 2).numpy(), atol=TOLERANCE)
    for latents in (posterior.mean, posterior.mean.reshape(8, 12)):
        np.testing.assert_allclose(client.decode("maps", latents).images, decoded, atol=TOLERANCE)
    reconstruction = client.reconstruct("maps", images)
    np.testing.assert_allclose(reconstruction.images, decoded, atol=TOLERANCE)
    kl = gaussian_kl(*expected).sum(1).numpy()
    np.testing.assert_allclose(reconstruction.kl, kl, rtol=1e-4)
    assert client.sample("maps", 3, seed=7, prior="mixture").images.shape == (3, 1, 8, 8)


def test_a_gan_has_no_encoder(client: Client) -> None:
    with pytest.raises(FailedPreconditionError, match="dcgan"):
        client.encode("dcgan", np.zeros((1, 1, 8, 8), np.float32))


def sample(server: str, model: str, output: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """What the command says to six samples of seed 7."""
    asked = ("sample", model, "--count", 6, "--seed", 7, *options, "-o", output)
    return subprocess.run([BIN / "latentserve", "--server", server, *map(str, asked)], capture_output=True, text=True)


def test_a_conditional_model_draws_the_labels_that_the_command_asks_for(
    server: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    done = sample(server, "cvae", tmp_path / "drawn.npy", "--labels", "3,1")
    assert (done.returncode, done.stderr) == (0, "")
    trained = TrainedModel.load(runs["cvae"])
    latents = NoiseSource().draw(7, 0, 6, trained.model.latent_dim, Stream.PRIOR)
    with torch.no_grad():
        expected = trained.model.decode(torch.from_numpy(latents.copy()), torch.tensor([3, 1, 3, 1, 3, 1])).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "drawn.npy"), expected, atol=TOLERANCE)
    fitted = sample(server, "cvae", tmp_path / "fitted.npy", "--labels", "3,1", "--prior", "mixture")
    assert (fitted.returncode, fitted.stderr) == (0, "")
    assert np.abs(np.load(tmp_path / "fitted.npy") - expected).max() > 0.01, "other latents than of the normal prior"


def test_a_model_without_labels_says_so(server: str, runs: dict[str, Path], tmp_path: Path) -> None:
    done = sample(server, "dcgan", tmp_path / "drawn.npy")
    assert (done.returncode, np.load(tmp_path / "drawn.npy").shape) == (0, (6, 1, 8, 8))
    refused = sample(server, "dcgan", tmp_path / "refused.npy", "--labels", "3")
    assert refused.returncode != 0
    assert "labels: " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "refused.npy").exists()


def test_what_was_evaluated_is_served(client: Client, runs: dict[str, Path]) -> None:
    for family in ("cvae", "dcgan"):
        metrics = json.loads((runs[family] / "report.json").read_text())["metrics"]
        served = client.model(family)
        assert dict(served.manifest.metrics) == {f"test.{name}": value for name, value in metrics.items()}
    assert (client.model("cvae").labels, client.model("dcgan").labels) == (10, 0)


def test_the_description_is_the_manifest(client: Client, repository: Path) -> None:
    info = client.model("conv_vae")
    manifest = json.loads((repository / "conv_vae" / "1" / "manifest.json").read_text())
    assert (info.name, info.version, info.latent_dim, info.device) == ("conv_vae", 1, 256, "cpu")
    assert info.manifest.provenance.dataset_sha256 == manifest["provenance"]["dataset_sha256"]
