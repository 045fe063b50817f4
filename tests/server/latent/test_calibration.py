"""A percentile is the share of the calibrated images that score no higher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.scores import anomaly_percentile

CALIBRATED = TinyModel(quantiles=tuple(np.linspace(20.0, 60.0, 101)))
LEVELS = st.lists(st.floats(-500, 500, width=32), min_size=101, max_size=101).map(sorted)


def percentile(quantiles: list[float] | tuple[float, ...], *scores: float) -> list[float]:
    result = anomaly_percentile(quantiles, np.array(scores, np.float32))
    assert result.dtype == np.float32
    return list(result.tolist())


def test_it_is_linear_between_quantiles_and_bounded_outside() -> None:
    quantiles = [float(10 * value) for value in range(101)]
    assert percentile(quantiles, -1, 0, 15, 500, 999, 1000, 1001, np.inf) == pytest.approx(
        [0, 0, 1.5, 50, 99.9, 100, 100, 100]
    )


def test_of_equal_quantiles_the_highest_counts() -> None:
    quantiles = [0.0] * 40 + [5.0] * 21 + [9.0] * 40
    assert percentile(quantiles, -1, 0, 4, 5, 7, 9) == pytest.approx([0, 39, 39.8, 60, 60.5, 100])
    assert percentile([3.0] * 101, 2, 3, 4) == [0, 100, 100]


@given(quantiles=LEVELS, scores=st.lists(st.floats(-600, 600, width=32), min_size=2, max_size=9))
def test_it_never_falls_and_is_at_a_quantile_what_that_quantile_says(
    quantiles: list[float], scores: list[float]
) -> None:
    shares = percentile(quantiles, *sorted(scores))
    assert all(0 <= share <= 100 for share in shares)
    assert shares == sorted(shares)
    highest = [100 - quantiles[::-1].index(quantile) for quantile in quantiles]
    np.testing.assert_allclose(percentile(quantiles, *quantiles), highest, atol=1e-4)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    CALIBRATED.write(tmp_path / "calibrated" / "1")
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path) as server:
        yield server


def images() -> NDArray[np.uint8]:
    return CALIBRATED.random_images(20)


async def score(served: RunningServer, name: str, draws: int = 0) -> pb.ScoreResponse:
    request = pb.ScoreRequest(
        model=pb.ModelRef(name=name), images=pb.Images(tensor=from_ndarray(images())), draws=draws
    )
    return await served.generation.Score(request)


async def test_score_ranks_minus_the_elbo_among_the_quantiles(served: RunningServer) -> None:
    reply = await score(served, "calibrated")
    expected = np.interp(-np.array(reply.elbo), CALIBRATED.quantiles, np.arange(101))
    np.testing.assert_allclose(reply.anomaly_percentile, expected, rtol=1e-5)
    assert 0 < min(reply.anomaly_percentile) < max(reply.anomaly_percentile) < 100, "else this would prove little"


async def test_there_is_no_percentile_with_draws_or_without_a_calibration(served: RunningServer) -> None:
    assert not (await score(served, "calibrated", draws=2)).anomaly_percentile
    assert not (await score(served, "vae")).anomaly_percentile
