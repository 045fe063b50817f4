"""The mixture prior: fitted where the latents lie, sound where they collapse, the same when it is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from latentserve_training.errors import RunError
from latentserve_training.evaluation.mixture import Mixture


def two_clusters(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws of three dimensions and their means: two clusters, the second twice as likely, along a tilted axis.

    The last dimension has collapsed.
    """
    rng = np.random.default_rng(0)
    side = rng.random(count) < 1 / 3
    along = np.where(side, -5.0, 5.0) + rng.standard_normal(count)
    draws = np.stack((along, along + 0.1 * rng.standard_normal(count), np.zeros(count)), axis=1)
    means = np.stack((along, along, np.zeros(count)), axis=1)
    return draws.astype(np.float32), means.astype(np.float32)


def test_samples_follow_the_latents_where_the_standard_normal_would_not() -> None:
    latents, means = two_clusters(6000)
    mixture = Mixture.fit(latents, means, seed=0)
    samples = mixture.sample(20_000, seed=1)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples.mean(0), latents.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(latents.T), atol=0.2)
    assert (samples[:, 0] < 0).mean() == pytest.approx(1 / 3, abs=0.03)
    assert (np.abs(samples[:, 0]) < 1).mean() < 0.01, "nothing lies between the clusters"


def test_what_the_draws_hide_is_told_by_their_means() -> None:
    """Two narrow clusters a little apart in one latent, under the noise of two hundred inactive ones."""
    rng = np.random.default_rng(0)
    side = np.repeat((-1.0, 1.0), 2000)
    means = np.zeros((len(side), 200), np.float32)
    means[:, 0] = side + 0.1 * rng.standard_normal(len(side))
    draws = means + rng.standard_normal(means.shape).astype(np.float32) * np.where(np.arange(200), 1.0, 0.1)
    mixture = Mixture.fit(draws.astype(np.float32), means, seed=0)
    assert (np.abs(mixture.sample(5000, seed=1)[:, 0]) < 0.5).mean() < 0.01, "nothing lies between the clusters"


def test_posteriors_that_are_all_the_same_make_one_gaussian() -> None:
    draws = np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32)
    mixture = Mixture.fit(draws, np.zeros_like(draws), seed=0)
    assert mixture.components == 1
    np.testing.assert_allclose(mixture.sample(5000, seed=1).std(0), draws.std(0), rtol=0.05)


@pytest.mark.parametrize("spread", [1e-6, 30.0, 1000.0])
def test_latents_along_few_directions_are_followed(spread: float) -> None:
    rng = np.random.default_rng(0)
    means = spread * rng.standard_normal((1500, 4)) @ rng.standard_normal((4, 64))
    draws = means + 0.01 * rng.standard_normal(means.shape)
    mixture = Mixture.fit(draws.astype(np.float32), means.astype(np.float32), seed=0)
    samples = mixture.sample(20_000, seed=1)
    np.testing.assert_allclose(samples.std(0), draws.std(0), rtol=0.1, atol=0.02)


def test_a_collapsed_dimension_leaves_factors_that_can_be_used() -> None:
    mixture = Mixture.fit(*two_clusters(500), seed=0)
    diagonals = np.diagonal(mixture.factors, axis1=1, axis2=2)
    assert np.isfinite(mixture.factors).all()
    assert (diagonals > 0).all()
    np.testing.assert_array_equal(mixture.factors, np.tril(mixture.factors))
    assert np.abs(mixture.sample(1000, seed=0)[:, 2]).max() < 0.1


@pytest.mark.parametrize(("latents", "components"), [(30_000, 10), (45, 3), (8, 1)])
def test_components_are_as_many_as_the_latents_can_carry(latents: int, components: int) -> None:
    assert Mixture.fit(*two_clusters(latents), seed=0).components == components


def test_the_file_is_the_archive_that_a_bundle_takes(tmp_path: Path) -> None:
    mixture = Mixture.fit(*two_clusters(600), seed=0)
    mixture.save(tmp_path / "mixture.safetensors")
    archive = load_file(tmp_path / "mixture.safetensors")
    kinds = {name: (archive[name].dtype.str, archive[name].shape) for name in archive}
    assert archive["weights"].sum() == pytest.approx(1, abs=1e-12)
    k = mixture.components
    assert kinds == {"weights": ("<f8", (k,)), "means": ("<f4", (k, 3)), "factors": ("<f4", (k, 3, 3))}
    again = Mixture.load(tmp_path / "mixture.safetensors")
    np.testing.assert_array_equal(again.sample(50, seed=3), mixture.sample(50, seed=3))


def test_the_seed_decides_the_fit_and_the_samples() -> None:
    first, second = Mixture.fit(*two_clusters(600), seed=0), Mixture.fit(*two_clusters(600), seed=0)
    np.testing.assert_array_equal(first.means, second.means)
    assert not np.array_equal(first.sample(10, seed=0), first.sample(10, seed=1))


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_no_mixture_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mixture.safetensors").write_bytes(content)
    with pytest.raises(RunError) as caught:
        Mixture.load(tmp_path / "mixture.safetensors")
    assert str(caught.value) == f"{tmp_path / 'mixture.safetensors'}: not a mixture; run latentserve-evaluate again"
