"""What noise promises: the same rows whatever is asked around them, and a standard normal distribution."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentserve.contract import MAX_INDEX
from latentserve_server.latent.noise import NoiseSource, Stream

SEEDS = st.integers(0, 2**64 - 1)
DIMS = st.one_of(st.integers(1, 9), st.sampled_from([64, 127, 513]))
COUNTS = st.integers(1, 200)
FIRSTS = st.one_of(st.integers(0, 100), st.integers(0, MAX_INDEX - 400), st.just(MAX_INDEX - 400))
CHUNK = 2**15
"""Values that the source makes at a time: rows that straddle its edge must not show it."""


def draw(seed: int, first: int, count: int, dim: int, stream: Stream = Stream.PRIOR) -> NDArray[np.float32]:
    return NoiseSource().draw(seed, first, count, dim, stream)


@given(seed=SEEDS, first=FIRSTS, count=COUNTS, dim=DIMS, stream=st.sampled_from(Stream), data=st.data())
@example(seed=7, first=MAX_INDEX - 400, count=200, dim=513, stream=Stream.POSTERIOR, data=None)
def test_a_row_depends_on_seed_stream_and_index_alone(
    seed: int, first: int, count: int, dim: int, stream: Stream, data: st.DataObject | None
) -> None:
    rows = draw(seed, first, count, dim, stream)
    start = data.draw(st.integers(0, count - 1)) if data else count // 2
    stop = data.draw(st.integers(start + 1, count)) if data else count
    assert rows.shape == (count, dim)
    np.testing.assert_array_equal(draw(seed, first + start, stop - start, dim, stream), rows[start:stop])


@pytest.mark.parametrize("dim", [1, 3, 127, CHUNK + 1])
def test_rows_drawn_one_by_one_are_the_rows_drawn_together_across_the_chunks(dim: int) -> None:
    count = 2 * CHUNK // dim + 3
    together = draw(5, 1000, count, dim)
    edge = CHUNK // (dim + dim % 2)
    for row in {0, 1, max(0, edge - 1), edge, edge + 1, 2 * edge, count - 1} & set(range(count)):
        np.testing.assert_array_equal(draw(5, 1000 + row, 1, dim)[0], together[row])


def test_a_source_remembers_nothing_of_earlier_draws_and_hands_out_nothing_twice() -> None:
    source = NoiseSource()
    first = source.draw(1, 0, 3, 5, Stream.PRIOR)
    kept = first.copy()
    source.draw(2, 9, 100, 8, Stream.POSTERIOR)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(source.draw(1, 0, 3, 5, Stream.PRIOR), kept)


def test_threads_that_share_a_source_do_not_disturb_each_other() -> None:
    source = NoiseSource()

    def rows(seed: int) -> NDArray[np.float32]:
        return source.draw(seed, 0, 500, 64, Stream.PRIOR)

    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(rows, range(32)))
    for seed, array in enumerate(drawn):
        np.testing.assert_array_equal(array, draw(seed, 0, 500, 64))


def test_seeds_streams_and_rows_are_uncorrelated() -> None:
    values = 40_000
    drawn = [draw(seed, 0, values // 8, 8, stream).ravel() for seed in (0, 1, 2**63) for stream in Stream]
    drawn += [draw(0, 2**40, values // 8, 8).ravel()]
    for one, other in combinations(drawn, 2):
        assert not np.array_equal(one, other)
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / math.sqrt(values)
    rows = draw(3, 0, 5000, 8)
    for one, other in pairwise(rows.T):  # the cosine and the sine of one word among them
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / math.sqrt(len(rows))
        assert abs(np.corrcoef(one**2, other**2)[0, 1]) < 4.5 / math.sqrt(len(rows))
    assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 4.5 / math.sqrt(rows.size)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_values_are_standard_normal(seed: int, stream: Stream, dim: int) -> None:
    values = np.sort(draw(seed, 0, 60_000 // dim, dim, stream).ravel().astype(np.float64))
    n = len(values)
    cdf = np.array([NormalDist().cdf(value) for value in values])
    steps = np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1]))
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov at the 0.1 % level
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        variance = np.prod(np.arange(2 * power - 1, 0, -2)) - moment**2  # of x^power: E x^2k = (2k - 1)!!
        assert abs(np.mean(values**power) - moment) < 4.5 * math.sqrt(variance / n)


def test_the_tails_are_there() -> None:
    values = draw(11, 0, 250_000, 8).astype(np.float64)
    for bound in (3.0, 4.0):
        expected = 2 * NormalDist().cdf(-bound) * values.size
        assert abs(np.sum(np.abs(values) > bound) - expected) < 4.5 * math.sqrt(expected)
    assert np.isfinite(values).all()
    assert 4.5 < np.abs(values).max() < 6.7  # 6.66 is the largest radius that the scheme has
