"""Windows of rows, and how far they lie from what was calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentserve_server.latent.drift import LatentDrift, PercentileDrift, gaussian_drift, stability_index

MEANS, VARIANCES = np.array([0.5, -2, 0, 30], np.float32), np.array([1, 0.25, 1e-3, 4], np.float32)


def rows_of(count: int, seed: int = 0, shift: float = 0.0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Rows of the calibrated distribution, their means moved by `shift` standard deviations."""
    noise = np.random.default_rng(seed).standard_normal((count, len(MEANS))) + shift
    return (MEANS + np.sqrt(VARIANCES) * noise).astype(np.float32)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=30))
def test_a_window_ends_once_there_are_a_thousand_rows_and_is_of_them_all(sizes: list[int]) -> None:
    rows = rows_of(sum(sizes))
    drift, begin, window = LatentDrift(MEANS, VARIANCES), 0, 0
    for size in sizes:
        found = drift.add(rows[begin : begin + size])
        begin += size
        if begin - window < 1000:
            assert found is None
        else:
            seen, window = rows[window:begin].astype(np.float64), begin
            before = MEANS.astype(np.float64), VARIANCES.astype(np.float64)
            wanted = gaussian_drift(seen.mean(axis=0), seen.var(axis=0), *before)
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("latents", [1, 3, 200, 40_000])
def test_any_number_of_latents_is_summed(latents: int) -> None:
    rows = np.random.default_rng(0).standard_normal((1000, latents), np.float32)
    nothing, one = np.zeros(latents, np.float32), np.ones(latents, np.float32)
    together, apart = LatentDrift(nothing, one), LatentDrift(nothing, one)
    assert all(apart.add(part) is None for part in np.split(rows, 50)[:-1])
    assert together.add(rows) == pytest.approx(apart.add(rows[-20:]), rel=1e-6)


def test_rows_of_the_same_distribution_have_drifted_by_next_to_nothing() -> None:
    drift = LatentDrift(MEANS, VARIANCES)
    found = [drift.add(rows_of(1000, seed)) for seed in range(20)]
    assert all(nats is not None and 0 <= nats < 0.005 for nats in found)


def test_means_that_move_by_half_a_standard_deviation_are_an_eighth_of_a_nat_apart() -> None:
    found = LatentDrift(MEANS[:2], VARIANCES[:2]).add(rows_of(200_000, shift=0.5)[:, :2])
    assert found == pytest.approx(0.125, abs=2e-3)


def test_the_divergence_is_that_of_the_densities() -> None:
    grid = np.linspace(-40, 40, 800_001)

    def density(mean: float, variance: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    p, q = density(1, 2 + 1e-4), density(-0.5, 3 + 1e-4)
    integral = float(np.trapezoid(p * np.log(p / q), grid))
    one = gaussian_drift(*(np.array([value]) for value in (1.0, 2.0, -0.5, 3.0)))
    assert one == pytest.approx(integral, rel=1e-6)


def test_a_latent_that_never_varies_tells_nothing_by_its_last_bits() -> None:
    still = np.full((1000, 1), 1 + 1e-3, np.float32)
    found = LatentDrift(np.ones(1, np.float32), np.zeros(1, np.float32)).add(still)
    assert found is not None
    assert 0 < found < 0.006


def test_values_beyond_all_bounds_are_far_away_and_no_error() -> None:
    found = LatentDrift(MEANS, VARIANCES).add(np.full((1000, 4), 3e38, np.float32))
    assert found is not None
    assert np.isfinite(found)
    assert found > 1e6


def test_percentiles_that_are_even_are_stable() -> None:
    drift, random = PercentileDrift(), np.random.default_rng(0)
    assert drift.add(np.array([0, 100], np.float32)) is None
    found = [drift.add(random.uniform(0, 100, 1000).astype(np.float32)) for _ in range(20)]
    assert all(index is not None and 0 <= index < 0.04 for index in found)


def test_percentiles_that_gather_at_an_end_are_not() -> None:
    for percentiles in (np.zeros(1000, np.float32), np.full(1000, 100, np.float32)):
        found = PercentileDrift().add(percentiles)
        assert found is not None
        assert found > 1


def test_the_index_is_the_sum_of_its_formula() -> None:
    counts = np.array([30, 10], np.int64)
    p = np.array([30.5, 10.5]) / 41
    assert stability_index(counts) == pytest.approx(float(((p - 0.5) * np.log(p / 0.5)).sum()))
