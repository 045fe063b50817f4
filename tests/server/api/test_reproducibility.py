"""A row is the same to the bit, alone and in company: whatever the count, the batch, the chunk or the other callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb

pytestmark = pytest.mark.cpu_only("the same bits in batches of any size are promised on the CPU alone")

ROWS = 100
MODELS = {
    "linear": TinyModel(slow=True),
    "wide": TinyModel(slow=True, latent_dim=130, channels=1, height=28, width=28, seed=4),
    "steady": TinyModel(latent_dim=130, channels=1, height=28, width=28, seed=8),
    "conv": TinyModel(slow=True, latent_dim=16, channels=3, height=16, width=16, conv=True, seed=5),
    "gan": TinyModel(slow=True, kind="gan", latent_dim=7, channels=3, height=9, width=7, conv=True, seed=6),
}

Run = Callable[[Callable[[RunningServer], Awaitable[Any]]], Any]


@pytest.fixture(scope="module", params=[1, 2], ids=["one thread", "two threads"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a scenario against a server that lives as long as the tests of this file do, for many examples."""
    root = tmp_path_factory.mktemp("models")
    for name, model in MODELS.items():
        model.write(root / name / "1")
    with asyncio.Runner() as runner:
        context = running_server(root, cpu_threads=request.param, max_batch_rows=24, metrics_listen="127.0.0.1:0")
        server = runner.run(context.__aenter__())
        yield lambda scenario: runner.run(scenario(server))  # type: ignore[arg-type]
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def alone(run: Run) -> dict[str, NDArray[np.float32]]:
    """The first rows of seed 7 of every model, each drawn by a call of its own, one call at a time."""

    async def draw_each(server: RunningServer) -> dict[str, NDArray[np.float32]]:
        return {
            name: np.concatenate([await sample(server, name, first, 1) for first in range(ROWS)]) for name in MODELS
        }

    drawn: dict[str, NDArray[np.float32]] = run(draw_each)
    return drawn


async def sample(server: RunningServer, name: str, first: int, count: int) -> NDArray[np.float32]:
    request = pb.SampleRequest(model=pb.ModelRef(name=name), count=count, seed=7, first_index=first)
    return to_ndarray((await server.generation.Sample(request)).images.tensor)


async def in_company(server: RunningServer, name: str, *calls: Awaitable[Any], turns: int = 1000) -> list[Any]:
    """The results of the calls, made while the model is busy with another: so that they wait, and share batches."""
    latents = np.full((1, MODELS[name].latent_dim), turns, np.float32)
    busy = server.generation.Decode(pb.DecodeRequest(model=pb.ModelRef(name=name), latents=from_ndarray(latents)))
    return (await asyncio.gather(busy, *calls))[1:]


SPANS = st.builds(
    lambda first, count: (first, min(count, ROWS - first)),
    st.integers(0, ROWS - 1),
    st.one_of(st.integers(1, 5), st.integers(1, ROWS)),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(spans=st.lists(SPANS, min_size=1, max_size=12))
def test_sampled_rows_are_the_same_in_any_company(
    run: Run, alone: dict[str, NDArray[np.float32]], name: str, spans: Sequence[tuple[int, int]]
) -> None:
    drawn = run(lambda server: in_company(server, name, *(sample(server, name, *span) for span in spans)))
    for (first, count), images in zip(spans, drawn, strict=True):
        np.testing.assert_array_equal(images, alone[name][first : first + count])


def test_a_part_of_a_long_job_is_the_part_of_the_whole(run: Run) -> None:
    async def whole_and_part(server: RunningServer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return await sample(server, "conv", 0, 100), await sample(server, "conv", 10, 10)

    whole, part = run(whole_and_part)
    np.testing.assert_array_equal(whole[10:20], part)


@settings(max_examples=5)
@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=6), seed=st.integers(0, 9))
def test_reconstructions_and_their_costs_are_the_same_in_any_company(run: Run, sizes: list[int], seed: int) -> None:
    images = MODELS["wide"].random_images(30, seed)

    async def reconstruct(
        server: RunningServer, rows: NDArray[np.uint8]
    ) -> tuple[NDArray[Any], list[float], list[float]]:
        form = pb.Images(tensor=from_ndarray(rows))
        reply = await server.generation.Reconstruct(pb.ReconstructRequest(model=pb.ModelRef(name="wide"), images=form))
        return to_ndarray(reply.images.tensor), list(reply.reconstruction_error), list(reply.kl)

    async def alone_and_in_company(server: RunningServer) -> Any:
        each = [await reconstruct(server, images[row : row + 1]) for row in range(max(sizes))]
        return each, await in_company(server, "wide", *(reconstruct(server, images[:size]) for size in sizes))

    each, together = run(alone_and_in_company)
    for size, (decoded, errors, costs) in zip(sizes, together, strict=True):
        np.testing.assert_array_equal(decoded, np.concatenate([one[0] for one in each[:size]]))
        assert errors == [one[1][0] for one in each[:size]]
        assert costs == [one[2][0] for one in each[:size]]


def test_calls_did_share_batches(run: Run) -> None:
    """Else the tests above would prove nothing."""

    async def batches_of(server: RunningServer, calls: int) -> float:
        labels = {"model": "conv", "graph": "decoder"}
        before = await server.metric("batch_rows_count", **labels)
        await in_company(server, "conv", *(sample(server, "conv", 0, 1) for _ in range(calls)), turns=5000)
        return await server.metric("batch_rows_count", **labels) - before

    assert run(lambda server: batches_of(server, 40)) < 20
