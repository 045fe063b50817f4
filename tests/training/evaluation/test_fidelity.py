"""FID against its closed form, KID's lack of bias, precision and recall on sets made to have them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latentserve_training.evaluation.fidelity import Fidelity, frechet_distance, kernel_distance, precision_and_recall


def normal(count: int, seed: int, dim: int = 6) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def with_moments(rows: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """`rows` moved so that their own mean and covariance are these, not only those of the law they came from."""
    rows = rows.double() - rows.double().mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(rows.T)), rows.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance.double()).T + mean.double()


def test_fid_of_two_gaussians_is_the_closed_form() -> None:
    """For commuting covariances: |m1 - m2|^2 + sum_j (s1_j - s2_j)^2 over the standard deviations."""
    first, second = torch.tensor([1.0, 4.0, 0.25]), torch.tensor([9.0, 1.0, 0.25])
    mean = torch.tensor([1.0, -2.0, 0.5])
    rotation = torch.linalg.qr(normal(3, 7, dim=3).double()).Q
    real = with_moments(normal(500, 0, 3), torch.zeros(3), torch.diag(first)) @ rotation
    generated = with_moments(normal(400, 1, 3), mean, torch.diag(second)) @ rotation
    expected = mean.square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    assert frechet_distance(real, generated) == pytest.approx(expected.item(), rel=1e-6)


def test_fid_is_symmetric_and_nothing_between_a_set_and_itself() -> None:
    one, other = normal(300, 0), 1.5 * normal(200, 1) + 0.3
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-6)


def test_kid_has_no_bias_where_fid_has() -> None:
    """Between fresh draws of one law KID averages to nothing, below it as often as above, however few they are."""
    pairs = [(normal(100, seed), normal(100, 1000 + seed)) for seed in range(40)]
    kids = torch.tensor([kernel_distance(one, other, seed=0) for one, other in pairs])
    assert kids.mean().abs() < 3 * kids.std() / math.sqrt(len(kids))
    assert kids.min() < 0 < kids.max()
    assert all(frechet_distance(one, other) > 0.05 for one, other in pairs[:5])
    assert kernel_distance(normal(100, 0), normal(100, 1) + 1, seed=0) > kids.max()


def test_kid_s_subsets_come_from_the_seed_alone() -> None:
    real, generated = normal(1200, 0), normal(1300, 1)
    before = torch.get_rng_state()
    found = kernel_distance(real, generated, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert kernel_distance(real, generated, seed=3) == found
    assert kernel_distance(real, generated, seed=4) != found


def test_precision_and_recall_tell_missing_modes_from_wrong_ones() -> None:
    left, right = normal(400, 0), normal(400, 1) + 100
    both = torch.cat((left, right))
    half = normal(400, 2)
    precision, recall = precision_and_recall(both, half)
    assert precision > 0.7
    assert recall == pytest.approx(precision_and_recall(left, half)[1] / 2, abs=1e-9)
    precision, recall = precision_and_recall(left, torch.cat((half, normal(400, 3) - 100)))
    assert 0.35 < precision < 0.5
    assert recall > 0.7


def test_precision_and_recall_of_sets_that_can_be_counted() -> None:
    """On a line: real 0 to 7, whose third neighbours lie 2 or 3 away; generated 8, 9, 10 and 50."""
    real = torch.arange(8.0).unsqueeze(1)
    generated = torch.tensor([[8.0], [9.0], [10.0], [50.0]])
    # The ball of 7 reaches to 10. The generated radii, to the third neighbour, are 40 and more: all real lie inside.
    assert precision_and_recall(real, generated) == (0.75, 1.0)


def test_all_four_are_those_of_the_functions() -> None:
    real, generated = normal(150, 0), normal(120, 1)
    found = Fidelity.between(real, generated, seed=2)
    assert found.fid == frechet_distance(real, generated)
    assert found.kid == kernel_distance(real, generated, 2)
    assert (found.precision, found.recall) == precision_and_recall(real, generated)
