"""How many rows an import is checked with, by what a row takes, and what it says of few."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from training.foreign_models import GAN, TANH, bring, changed, write

from latentserve_training.foreign.check_rows import rows_to_check


@pytest.mark.parametrize(
    ("row_seconds", "rows"), [(1e-4, 64), (0.1, 64), (0.5, 15), (1.0, 7), (3.0, 2), (20.0, 2), (1000.0, 2)]
)
def test_what_takes_long_is_checked_with_few_rows(row_seconds: float, rows: int) -> None:
    ran: list[int] = []

    def run(count: int) -> float:
        ran.append(count)
        return count * row_seconds

    assert rows_to_check(run, 64) == rows
    assert sum(ran) <= 2 * rows, "and finding out takes less than that"


@pytest.mark.parametrize("first", [0.9, 10.0])
def test_a_first_run_that_takes_longer_than_the_others_is_outweighed(first: float) -> None:
    seconds: Iterator[float] = iter([first, 0.01])
    assert rows_to_check(lambda _: next(seconds), 64) == 64


def test_no_more_rows_are_checked_than_there_are() -> None:
    assert rows_to_check(lambda rows: 1e-3 * rows, 2) == 2
    assert rows_to_check(lambda rows: 1e-3 * rows, 3) == 3


SLOW = changed(
    TANH,
    "y = Tanh(h)",
    "s = ReduceSum(z)\n o = Mul(s, nought)\n b = Add(large, o)\n q = MatMul(b, large)\n t = ReduceMax(q)\n "
    "u = Mul(t, nought)\n c = Add(h, u)\n y = Tanh(c)",
)
"""A decoder that multiplies matrices in every run, 2 billion operations, and adds 0 times what comes out."""


def test_a_decoder_whose_runs_take_long_is_said_to_be_compared_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(write(tmp_path / "g.onnx", SLOW))
    large = np.random.default_rng(0).standard_normal((1000, 1000), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    onnx.save(model, tmp_path / "g.onnx")
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    told = "decoder: a row takes long, so only the first rows were compared bit by bit, in batches of 1, 2, 3, 7 and 64"
    assert capsys.readouterr().err == f"latentserve-import: {told}\n"
    assert f"- {told}." in (tmp_path / "models" / "m" / "1" / "CARD.md").read_text()
