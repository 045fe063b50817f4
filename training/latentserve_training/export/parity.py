"""A graph's outputs compared with its model's at several batch sizes, and the bits of its rows with each other."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from latentserve.row_bits import TRIAL_BATCHES, batch_dependence
from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import describe_node
from latentserve_training.export.plan import Arrays, GraphPlan
from latentserve_training.export.runtime_message import shortened
from latentserve_training.export.sessions import open_session, run_rows
from latentserve_training.number_text import apart

PARITY_BATCHES = (1, 2, 3, 7, 64)
"""Of these, those for which the plan has rows enough."""
PARITY_LIMIT = 1e-5
"""Fraction of a tensor's largest value, or of 1 where that is less: float32 sums in another order differ in
proportion to what is summed, and neighbours of a logit of 60 are 4e-6 away."""
_OTHER_CODES = 1e-4
"""Share of codes that may be others."""
_TRIED_ROWS = (64, 16)
"""How many rows are tried for their bits: few steps, so that what is found hardly depends on how busy a machine is."""


class ParityError(ExportError):
    """A graph whose outputs are not the model's."""


class RowBits(NamedTuple):
    """What was found of the bits of rows in batches of several sizes."""

    dependence: str
    """The first output and batch size of which a row has other bits than in a larger batch; empty if none has."""
    rows: int
    """How many rows were tried in batches of each size; beyond them, only those that the check of parity ran."""


class Trial:
    """A graph's file, opened once and run on rows of its plan's example."""

    def __init__(self, path: Path, plan: GraphPlan) -> None:
        """Open the file.

        Raises:
            ExportError: onnxruntime cannot.
        """
        self._plan, self._session = plan, open_session(path)
        self._found: dict[int, Arrays] = {}
        """What it made of the first rows, so many at a time."""
        self._expected: dict[int, Arrays] = {}
        """What the model made of them."""
        self._run_seconds = math.inf
        """What its fastest run took: one of few rows, but hardly the first, which asks for its memory."""

    def check_parity(self) -> float:
        """Run it at several batch sizes; returns the largest absolute difference of a float output from the model's.

        Raises:
            ParityError: the difference is more than is allowed.
            ExportError: an output's row depends on other rows, or the file does not run.
        """
        plan, sizes = self._plan, self._plan.sizes(PARITY_BATCHES)
        for batch in sizes:
            began = time.perf_counter()
            try:
                self._found[batch] = self._run(plan.rows(0, batch))
            except Exception as error:  # onnxruntime's own kinds of error have no public common class
                reason = shortened(error)
                raise ExportError(f"{plan.role}: onnxruntime cannot run batches of {batch}: {reason}") from error
            self._run_seconds = min(self._run_seconds, time.perf_counter() - began)
            self._expected[batch] = plan.expected_of(batch)
            for name, found in self._found[batch].items():
                _require_form(found, self._expected[batch][name], f"{plan.role}: {name!r} at batch {batch}")
        for smaller, larger in pairwise(sizes):
            for name, found in self._found[larger].items():
                share = plan.limits.get(name, PARITY_LIMIT)
                _require_independent_rows(found, self._found[smaller][name], share, f"{plan.role}: {name!r}")
        return max(self._difference(name, batch) for batch in sizes for name in plan.outputs)

    def row_bits(self, most_seconds: float = math.inf) -> RowBits:
        """Whether a row's bits depend on its batch.

        Where a trial of all rows would take more than `most_seconds`, by what the check of parity took, few are tried,
        or none beside those that it ran.
        """
        count = self._plan.row_count
        rows = count if most_seconds == math.inf else _affordable_rows(self._run_seconds, most_seconds, count)
        dependence = ""
        if rows:
            sizes = {min(size, rows) for size in TRIAL_BATCHES}
            dependence = batch_dependence(self._run, self._plan.rows(0, rows), sizes)
        return RowBits(dependence or self._found_dependence(), rows)

    def _run(self, rows: Mapping[str, NDArray[np.generic]]) -> Arrays:
        return run_rows(self._session, self._plan.outputs, dict(rows), self._plan.batch_rows)

    def _difference(self, name: str, batch: int) -> float:
        plan = self._plan
        share, where = plan.limits.get(name, PARITY_LIMIT), f"{plan.role}: {name!r} at batch {batch}"
        return _difference(self._found[batch][name], self._expected[batch][name], share, where)

    def _found_dependence(self) -> str:
        """As of RowBits, by what the check of parity ran."""
        for smaller, larger in pairwise(self._found):
            for name, found in self._found[smaller].items():
                if found.tobytes() != self._found[larger][name][:smaller].tobytes():
                    return f"{name!r} in a batch of {smaller}"
        return ""


def _affordable_rows(row_seconds: float, most_seconds: float, most: int) -> int:
    """How many rows are tried in batches of every size, by what one takes alone; 0 where even few take too long."""
    runs_a_row = 1 + sum(1 / size for size in TRIAL_BATCHES[:-1])  # in the largest batch a row takes no longer
    affordable = most_seconds / (runs_a_row * row_seconds)
    return next((min(rows, most) for rows in _TRIED_ROWS if min(rows, most) <= affordable), 0)


def _require_form(found: NDArray[np.generic], expected: NDArray[np.generic], where: str) -> None:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        ours, theirs = f"{expected.dtype}{list(expected.shape)}", f"{found.dtype}{list(found.shape)}"
        raise ParityError(f"{where} is {theirs} in onnxruntime, but {ours} in the model")


def _difference(found: NDArray[np.generic], expected: NDArray[np.generic], share: float, where: str) -> float:
    """The largest absolute difference of float arrays; 0 for uint8 arrays, where one level is rounding."""
    if found.dtype == np.int64:
        _require_codes(found, expected, where)
        return 0.0
    difference, limit = largest_difference(found, expected), allowed_difference(expected, share)
    # Not `difference > limit`: NaN must fail too.
    if not difference <= limit:
        ours, allowed = apart(difference, limit)
        raise ParityError(f"{where} differs from the model by {ours}; allowed is {allowed}")
    return 0.0 if found.dtype == np.uint8 else difference


def _require_codes(found: NDArray[np.generic], expected: NDArray[np.generic], where: str) -> None:
    """All codes but a few are the model's: rounding decides between entries that are as near."""
    others = int((found != expected).sum())
    if others > _allowed_codes(expected):
        raise ParityError(f"{where}: {others} of {expected.size} codes are not the model's")


def _allowed_codes(expected: NDArray[np.generic]) -> int:
    """How many codes may be others, as a server has it for golden rows."""
    return max(1, int(_OTHER_CODES * expected.size))


def allowed_difference(expected: NDArray[np.generic], share: float = PARITY_LIMIT) -> float:
    """How far a tensor may be from `expected`: a level for uint8, else a share of its largest value or of 1."""
    return 1.0 if expected.dtype == np.uint8 else share * max(1.0, float(np.abs(expected).max(initial=0)))


def _require_independent_rows(
    found: NDArray[np.generic], smaller: NDArray[np.generic], share: float, where: str
) -> None:
    """Rows of a batch must be those of a smaller batch with the same first rows."""
    if found.dtype == np.int64 and (found[: len(smaller)] != smaller).sum() <= _allowed_codes(smaller):
        return
    difference = largest_difference(found[: len(smaller)], smaller)
    if not difference <= allowed_difference(smaller, share):
        raise ExportError(
            f"{where} of a row changes by {difference:.2e} with the other rows of its batch; rows must be independent"
        )


def largest_difference(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """The largest absolute difference, in float64; NaN where there is one."""
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())


def first_difference(model: onnx.ModelProto, inputs: Arrays, expected: Mapping[str, NDArray[np.generic]]) -> str | None:
    """A description of the first node with an output other than `expected`; None if all agree."""
    watched = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in watched.graph.value_info}
    outputs = {value.name for value in watched.graph.output}
    watched.graph.output.extend(known[name] for name in expected if name in known and name not in outputs)
    names = [value.name for value in watched.graph.output if value.name in expected]
    found = dict(zip(names, open_session(watched.SerializeToString()).run(names, inputs), strict=True))
    for node in watched.graph.node:
        for name in node.output:
            if name in found and not agrees(found[name], expected[name]):
                return describe_node(node)
    return None


def agrees(found: NDArray[np.generic], expected: NDArray[np.generic]) -> bool:
    """Whether a tensor is `expected`, but for what sums in another order explain."""
    if found.shape != expected.shape:
        return False
    return largest_difference(found, expected) <= allowed_difference(expected)
