"""A mixture prior: distributed as its arrays say, the same to the bit in any company, and not where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tested_device import assert_agree, tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import to_ndarray
from latentserve.v1 import bundle_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_server.latent.prior import Mixture, NoiseTransform, Prior, PriorSource, SamplingSpec

MIXED = TinyModel(components=4, latent_dim=5, seed=3)
MIXTURE = SamplingSpec(Prior.MIXTURE)


def mixture_of(model: TinyModel) -> Mixture:
    arrays = model.mixture()
    return Mixture(arrays["weights"], arrays["means"], arrays["factors"])


def source_of(model: TinyModel) -> PriorSource:
    return PriorSource(NoiseSource(), model.latent_dim, mixture_of(model))


def test_draws_have_the_mixtures_moments_in_every_component() -> None:
    mixture, count = mixture_of(MIXED), 40_000
    components = mixture.choose(NoiseSource().words(5, 0, count, Stream.COMPONENT))
    drawn = source_of(MIXED).draw(5, 0, count, MIXTURE).astype(np.float64)
    shares = np.bincount(components, minlength=4) / count
    np.testing.assert_allclose(shares, mixture.weights, atol=4 * 0.5 / np.sqrt(count))
    for component, (mean, factor) in enumerate(zip(mixture.means, mixture.factors, strict=True)):
        rows = drawn[components == component]
        covariance = factor.astype(np.float64) @ factor.T
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=5 * np.sqrt(covariance.max() / len(rows)))
        np.testing.assert_allclose(np.cov(rows.T), covariance, atol=8 * covariance.max() / np.sqrt(len(rows)))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**47),
    start=st.integers(0, 59),
    count=st.integers(1, 60),
    temperature=st.sampled_from([1.0, 0.5]),
    truncation=st.sampled_from([None, 1.0]),
)
def test_a_row_is_the_same_to_the_bit_in_any_company(
    seed: int, first: int, start: int, count: int, temperature: float, truncation: float | None
) -> None:
    sampling = SamplingSpec(Prior.MIXTURE, NoiseTransform(temperature, truncation))
    whole = source_of(MIXED).draw(seed, first, 60, sampling)
    part = source_of(MIXED).draw(seed, first + start, min(count, 60 - start), sampling)
    np.testing.assert_array_equal(part.view(np.uint32), whole[start : start + count].view(np.uint32))


def test_words_at_the_edges_of_the_sums_have_a_component() -> None:
    quarters = Mixture(np.full(4, 0.25), np.zeros((4, 1), np.float32), np.ones((4, 1, 1), np.float32))
    assert quarters.choose(np.array([0, (1 << 62) - 1, 1 << 62, 3 << 62], np.uint64)).tolist() == [0, 0, 1, 3]
    tenths = Mixture(np.full(10, 0.1), np.zeros((10, 1), np.float32), np.ones((10, 1, 1), np.float32))
    assert tenths.weights.cumsum()[-1] <= 1 - 2.0**-53, "so that no sum is above the last word"
    assert tenths.choose(np.array([2**64 - 1], np.uint64)).tolist() == [9]


def test_without_temperature_a_row_is_its_components_mean() -> None:
    mixture = mixture_of(MIXED)
    drawn = source_of(MIXED).draw(1, 0, 50, SamplingSpec(Prior.MIXTURE, NoiseTransform(temperature=0)))
    components = mixture.choose(NoiseSource().words(1, 0, 50, Stream.COMPONENT))
    np.testing.assert_array_equal(drawn, mixture.means[components])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server over "mixed", and over "vae" without a mixture; at most 8 rows a batch."""
    MIXED.write(tmp_path / "mixed" / "1")
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_batch_rows=8) as server:
        yield server


def request(**fields: object) -> pb.SampleRequest:
    defaults = {"model": pb.ModelRef(name="mixed"), "seed": 9, "prior": bundle_pb2.PRIOR_MIXTURE}
    return pb.SampleRequest(**(defaults | fields))  # type: ignore[arg-type]


async def images(served: RunningServer, **fields: object) -> NDArray[np.float32]:
    return to_ndarray((await served.generation.Sample(request(**fields))).images.tensor)


async def test_sample_decodes_the_latents_of_the_mixture(served: RunningServer) -> None:
    latents = source_of(MIXED).draw(9, 4, 30, MIXTURE)
    drawn = await images(served, count=30, first_index=4)
    np.testing.assert_allclose(drawn, MIXED.images(latents), atol=tolerance(1e-6))
    alone = await asyncio.gather(*(images(served, count=1, first_index=4 + i) for i in range(30)))
    assert_agree(np.concatenate(alone), drawn)


async def test_a_stream_has_the_rows_of_sample(served: RunningServer) -> None:
    asked = pb.StreamSamplesRequest(
        model=pb.ModelRef(name="mixed"), count=30, seed=9, chunk_rows=7, prior=bundle_pb2.PRIOR_MIXTURE
    )
    chunks = [to_ndarray(chunk.images.tensor) async for chunk in served.generation.StreamSamples(asked)]
    assert_agree(np.concatenate(chunks), await images(served, count=30))


@pytest.mark.parametrize("prior", [bundle_pb2.PRIOR_UNSPECIFIED, bundle_pb2.PRIOR_STANDARD_NORMAL])
async def test_the_default_prior_is_the_standard_normal(served: RunningServer, prior: bundle_pb2.Prior) -> None:
    noise = NoiseSource().draw(9, 0, 10, 5, Stream.PRIOR)
    np.testing.assert_allclose(await images(served, count=10, prior=prior), MIXED.images(noise), atol=tolerance(1e-6))


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        (
            {"model": pb.ModelRef(name="vae")},
            grpc.StatusCode.FAILED_PRECONDITION,
            "prior: the model's bundle carries no mixture",
        ),
        (
            {"prior": 7},
            grpc.StatusCode.INVALID_ARGUMENT,
            "prior: 7 is not one of PRIOR_UNSPECIFIED, PRIOR_STANDARD_NORMAL, PRIOR_MIXTURE, PRIOR_GRAPH",
        ),
    ],
)
async def test_a_prior_that_is_not_there_is_refused(
    served: RunningServer, fields: dict[str, object], code: grpc.StatusCode, message: str
) -> None:
    asked = request(count=1, **fields)
    stream = pb.StreamSamplesRequest(model=asked.model, count=1, seed=9, prior=asked.prior)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.generation.Sample(asked)
    assert (caught.value.code(), caught.value.details()) == (code, message)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.generation.StreamSamples(stream).read()
    assert (caught.value.code(), caught.value.details()) == (code, message)
