"""A repository with a VAE, grey, and a GAN, in colour; and a real server over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve_server.engine import Device
from latentserve_server.errors import BundleError
from latentserve_server.loading import Loader
from latentserve_server.metrics import Metrics
from latentserve_server.noise import NoiseSource
from latentserve_server.served_model import Limits, ServedModel
from latentserve_server.workers import Workers

Load = Callable[[Path], Awaitable[ServedModel]]
Problem = Callable[[Path], Awaitable[str]]


@pytest.fixture(scope="session")
def vae() -> TinyModel:
    return TinyModel()


@pytest.fixture(scope="session")
def colour_vae() -> TinyModel:
    return TinyModel(channels=3, latent_dim=4, seed=2)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, vae: TinyModel, colour_vae: TinyModel) -> Path:
    """Three healthy models, "vae", "colour" and "gan". Not to be changed: tests share it."""
    root = tmp_path_factory.mktemp("models")
    vae.write(root / "vae" / "1")
    colour_vae.write(root / "colour" / "1")
    TinyModel(kind="gan", channels=3, seed=1).write(root / "gan" / "1")
    return root


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    """A server over the three models; at most 32 rows a call, 8 a batch."""
    async with running_server(repository, max_rows_per_request=32, max_batch_rows=8, max_queue_rows=64) as server:
        yield server


@pytest.fixture(scope="session")
def load() -> Load:
    """Makes a model of a bundle's directory, as the server does it."""
    limits = Limits(max_rows_per_request=8, max_batch_rows=4, max_queue_rows=8, max_message_bytes=1 << 20)
    observer, workers = Metrics().observer, Workers(1)
    loader = Loader(
        device=Device.CPU, cpu_threads=1, limits=limits, noise=NoiseSource(), workers=workers, observer=observer
    )
    return lambda directory: loader.load("tiny", 1, directory)


@pytest.fixture(scope="session")
def problem(load: Load) -> Problem:
    """Loads a damaged bundle; returns what the error says, which is one line."""

    async def problem(directory: Path) -> str:
        with pytest.raises(BundleError) as caught:
            await load(directory)
        message = str(caught.value)
        assert message
        assert "\n" not in message
        return message

    return problem
