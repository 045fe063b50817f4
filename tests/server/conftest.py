"""A repository with a VAE, grey, and a GAN, in colour; and a real server over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from held_graph import BACKSTOP_SECONDS
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve_server.errors import StartupError
from latentserve_server.workers import Workers

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


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    """One thread of each kind."""
    workers = Workers(1)
    async with asyncio.timeout(BACKSTOP_SECONDS):
        yield workers
    workers.close()


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Starts a server over one damaged bundle, <repository>/vae/1; returns why it is not served, which is one line."""

    async def problem(bundle: Path) -> str:
        with pytest.raises(StartupError) as caught:
            async with running_server(bundle.parents[1]):
                pass
        message, nothing_else = str(caught.value), f"{bundle.parents[1]}: no model can be served: vae/1: "
        assert message.startswith(nothing_else)
        assert "\n" not in message
        return message.removeprefix(nothing_else)

    return problem
