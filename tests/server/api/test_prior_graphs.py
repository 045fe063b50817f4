"""Priors that are graphs: rows of noise become latents or codes, and then images, in one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_kinds import KINDS, write_kinds
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_server.latent.prior import Mixture, NoiseTransform, Prior, PriorSource, SamplingSpec

WITH_GRAPHS = ["blind", "drawn", "flow", "conditional"]
SHAPING = pb.Shaping(temperature=0.7, truncation=1.5)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kinds(tmp_path_factory.mktemp("priors"))


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    options: dict[str, Any] = {"max_rows_per_request": 32, "max_batch_rows": 8, "metrics_listen": "127.0.0.1:0"}
    async with running_server(repository, **options) as server:
        yield server


def noise(model: TinyModel, rows: int, first: int = 0, seed: int = 7) -> NDArray[np.float32]:
    return NoiseSource().draw(seed, first, rows, model.noise_dim, Stream.PRIOR)


def images(model: TinyModel, rows: NDArray[np.float32], first: int = 0) -> NDArray[Any]:
    """What the weights make of rows of noise, of indices from `first` on."""
    labels = np.arange(first, first + len(rows)) % model.labels if model.labels else None
    made = model.from_noise(rows, labels)
    return model.images(model.embedded(made) if model.codes else made, labels)


async def sampled(served: RunningServer, name: str, count: int, **fields: Any) -> NDArray[Any]:
    request = pb.SampleRequest(model=pb.ModelRef(name=name), count=count, seed=7, **fields)
    return to_ndarray((await served.generation.Sample(request)).images.tensor)


@pytest.mark.parametrize("name", WITH_GRAPHS)
async def test_the_graph_is_the_default_where_the_bundle_says_so(served: RunningServer, name: str) -> None:
    model = KINDS[name]
    drawn = await sampled(served, name, 20)
    np.testing.assert_allclose(drawn, images(model, noise(model, 20)), atol=1e-5)
    np.testing.assert_array_equal(await sampled(served, name, 20, prior="PRIOR_GRAPH"), drawn)
    np.testing.assert_array_equal(await sampled(served, name, 3, first_index=9), drawn[9:12])
    assert await served.metric("batch_rows_sum", model=name, graph="sample") == 43
    assert await served.metric("batch_rows_sum", model=name, graph="decoder") == 0


@pytest.mark.parametrize("name", WITH_GRAPHS)
async def test_rows_in_any_company_have_the_bits_of_one_call(served: RunningServer, name: str) -> None:
    together = await sampled(served, name, 24)
    alone = await asyncio.gather(*(sampled(served, name, 1, first_index=index) for index in range(24)))
    np.testing.assert_array_equal(np.concatenate(alone), together)


@pytest.mark.parametrize("name", ["blind", "drawn"])
async def test_a_stream_has_the_rows_of_a_call(served: RunningServer, name: str) -> None:
    request = pb.StreamSamplesRequest(model=pb.ModelRef(name=name), count=10, seed=7, chunk_rows=4, shaping=SHAPING)
    chunks = [to_ndarray(chunk.images.tensor) async for chunk in served.generation.StreamSamples(request)]
    np.testing.assert_array_equal(np.concatenate(chunks), await sampled(served, name, 10, shaping=SHAPING))


async def test_shaping_is_of_the_noise(served: RunningServer) -> None:
    model = KINDS["blind"]
    source = NoiseSource()
    cut = source.truncate(source.draw(7, 0, 6, model.noise_dim, Stream.PRIOR), 7, 0, Stream.PRIOR, 1.5)
    expected = images(model, np.float32(0.7) * cut)
    np.testing.assert_allclose(await sampled(served, "blind", 6, shaping=SHAPING), expected, atol=1e-5)


async def test_a_model_may_have_every_prior(served: RunningServer) -> None:
    model, source = KINDS["flow"], PriorSource(NoiseSource(), 3, Mixture(**KINDS["flow"].mixture()))
    for prior, spec in (
        ("PRIOR_STANDARD_NORMAL", SamplingSpec()),
        ("PRIOR_MIXTURE", SamplingSpec(Prior.MIXTURE)),
    ):
        expected = model.images(source.draw(7, 0, 5, spec))
        np.testing.assert_allclose(await sampled(served, "flow", 5, prior=prior), expected, atol=1e-5)
    shaped = SamplingSpec(shaping=NoiseTransform(0.7, 1.5))
    expected = model.images(source.draw(7, 0, 5, shaped))
    found = await sampled(served, "flow", 5, prior="PRIOR_STANDARD_NORMAL", shaping=pb.Shaping(**shaping_of(shaped)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def shaping_of(spec: SamplingSpec) -> dict[str, Any]:
    return {"temperature": spec.shaping.temperature, "truncation": spec.shaping.truncation}


async def test_a_graph_beside_the_default_is_drawn_from_where_it_is_named(served: RunningServer) -> None:
    model = KINDS["mapped"]
    plain = NoiseSource().draw(7, 0, 4, 3, Stream.PRIOR)
    np.testing.assert_allclose(await sampled(served, "mapped", 4), model.images(plain), atol=1e-5)
    expected = images(model, noise(model, 4))
    np.testing.assert_allclose(await sampled(served, "mapped", 4, prior="PRIOR_GRAPH"), expected, atol=1e-5)


async def test_a_mixture_is_an_autoencoder_s_default(served: RunningServer) -> None:
    model = KINDS["mixed"]
    source = PriorSource(NoiseSource(), 3, Mixture(**model.mixture()))
    expected = model.images(source.draw(7, 2, 6, SamplingSpec(Prior.MIXTURE)))
    np.testing.assert_allclose(await sampled(served, "mixed", 6, first_index=2), expected, atol=1e-5)


async def points(served: RunningServer, name: str, seeds: list[int], **fields: Any) -> NDArray[Any]:
    """The latents of seeds, by a walk that goes nowhere."""
    ends = pb.Points(seeds=pb.Seeds(seeds=seeds))
    request = pb.InterpolateRequest(model=pb.ModelRef(name=name), to=ends, steps=2, **fields)
    getattr(request, "from").CopyFrom(ends)
    reply = await served.generation.Interpolate(request)
    return to_ndarray(reply.latents)[::2]


async def test_seeds_stand_for_row_0_of_the_default_prior(served: RunningServer) -> None:
    mixed = PriorSource(NoiseSource(), 3, Mixture(**KINDS["mixed"].mixture()))
    first = np.concatenate([mixed.draw(seed, 0, 1, SamplingSpec(Prior.MIXTURE)) for seed in (3, 4)])
    np.testing.assert_allclose(await points(served, "mixed", [3, 4]), first, atol=1e-6)
    for name, labels in (("blind", []), ("flow", []), ("conditional", [2, 1])):
        model = KINDS[name]
        rows = np.concatenate([noise(model, 1, seed=seed) for seed in (3, 4)])
        expected = model.from_noise(rows, np.array(labels) if labels else None)
        np.testing.assert_allclose(await points(served, name, [3, 4], labels=labels), expected, atol=1e-5)
    assert await served.metric("batch_rows_sum", model="blind", graph="prior") == 4


async def test_an_origin_of_a_seed_goes_through_the_graph(served: RunningServer) -> None:
    origin, axes = pb.Points(seeds=pb.Seeds(seeds=[5])), [pb.Axis(dimension=1, low=0, high=1, steps=2)]
    request = pb.TraverseRequest(model=pb.ModelRef(name="blind"), origin=origin, axes=axes)
    found = to_ndarray((await served.generation.Traverse(request)).latents)
    expected = KINDS["blind"].from_noise(noise(KINDS["blind"], 1, seed=5))[0]
    np.testing.assert_allclose(found, [[expected[0], 0, expected[2]], [expected[0], 1, expected[2]]], atol=1e-5)
