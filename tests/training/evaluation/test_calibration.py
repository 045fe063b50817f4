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
    calibration = Calibration.of(torch.tensor(scores, dtype=torch.float64))
    quantiles = calibration.negative_elbo_quantiles
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)
    assert (quantiles[0], quantiles[-1]) == (min(scores), max(scores))
    assert calibration.images == len(scores)


def test_quantiles_lie_evenly_among_the_scores_and_come_back_from_the_file(tmp_path: Path) -> None:
    calibration = Calibration.of(torch.arange(51).flip(0))
    assert calibration.negative_elbo_quantiles == pytest.approx([number / 2 for number in range(101)])
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == calibration
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        Calibration.load(tmp_path / "calibration.json")
    assert str(caught.value) == f"{tmp_path / 'calibration.json'}: not a calibration; run latentserve-evaluate again"
