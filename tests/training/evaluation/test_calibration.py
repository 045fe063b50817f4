"""Quantiles of scores: monotone, interpolated, the same when read back."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from latentserve_training.errors import RunError
from latentserve_training.evaluation.calibration import Calibration


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=60))
def test_quantiles_never_fall_and_span_the_scores(scores: list[float]) -> None:
    calibration = Calibration.of(torch.tensor(scores, dtype=torch.float64), torch.zeros(len(scores), 2))
    quantiles = calibration.negative_elbo_quantiles
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)
    assert (quantiles[0], quantiles[-1]) == (min(scores), max(scores))
    assert calibration.images == len(scores)


def test_quantiles_lie_evenly_among_the_scores_and_come_back_from_the_file(tmp_path: Path) -> None:
    calibration = Calibration.of(torch.arange(51).flip(0), torch.zeros(51, 2))
    assert calibration.negative_elbo_quantiles == pytest.approx([number / 2 for number in range(101)])
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == calibration
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        Calibration.load(tmp_path / "calibration.json")
    assert str(caught.value) == f"{tmp_path / 'calibration.json'}: not a calibration; run latentserve-evaluate again"


def test_latents_are_told_by_their_means_and_variances() -> None:
    calibration = Calibration.of(torch.zeros(4), torch.tensor([[1.0, 5], [1, -5], [2, 5], [2, -5]]))
    assert (calibration.latent_means, calibration.latent_variances) == ([1.5, 0], [0.25, 25])


@pytest.mark.parametrize(("latents", "told"), [(4096, 4096), (4097, 0)])
def test_so_many_latents_that_a_manifest_would_be_large_are_not_told(latents: int, told: int) -> None:
    calibration = Calibration.of(torch.zeros(3), torch.zeros(3, latents))
    assert (len(calibration.latent_means), len(calibration.latent_variances)) == (told, told)


def test_a_calibration_of_before_has_no_latents(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"negative_elbo_quantiles": [1.0], "images": 5}')
    assert Calibration.load(tmp_path / "calibration.json").latent_means == []
