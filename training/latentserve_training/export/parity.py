"""A graph's outputs compared with its model's, at several batch sizes and row by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from latentserve.row_bits import TRIAL_BATCHES, TRIAL_ROWS, batch_dependence
from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import describe_node
from latentserve_training.export.plan import Arrays, GraphPlan
from latentserve_training.export.runtime_message import shortened
from latentserve_training.export.sessions import open_session, run_rows
from latentserve_training.number_text import apart

PARITY_BATCHES = (1, 2, 7, 64)
"""Of these, those for which the plan has rows enough."""
PARITY_LIMIT = 1e-5
"""Fraction of a tensor's largest value, or of 1 where that is less: float32 sums in another order differ in
proportion to what is summed, and neighbours of a logit of 60 are 4e-6 away."""
_OTHER_CODES = 1e-4
"""Share of codes that may be others."""


class ParityError(ExportError):
    """A graph whose outputs are not the model's."""


def check_parity(path: Path, plan: GraphPlan) -> float:
    """Run the file at several batch sizes; returns the largest absolute difference of a float output from the model's.

    Raises:
        ParityError: the difference is more than is allowed.
        ExportError: an output's row depends on other rows, or the file does not run.
    """
    session = open_session(path)
    worst, found = 0.0, dict[str, NDArray[np.generic]]()
    smaller: Arrays = {}
    for batch in plan.sizes(PARITY_BATCHES):
        inputs = plan.rows(0, batch)
        expected = plan.compute(inputs)
        try:
            found = run_rows(session, plan.outputs, inputs, plan.batch_rows)
        except Exception as error:  # as above
            raise ExportError(f"{plan.role}: onnxruntime cannot run batches of {batch}: {shortened(error)}") from error
        for name in plan.outputs:
            where, share = f"{plan.role}: {name!r}", plan.limits.get(name, PARITY_LIMIT)
            worst = max(worst, _difference(found[name], expected[name], share, f"{where} at batch {batch}"))
            _require_independent_rows(found[name], smaller.get(name), share, where)
        smaller = found
    return worst


def row_dependence(path: Path, plan: GraphPlan) -> str:
    """The first output and batch size at which a row's bits differ from those in a large batch; empty if none."""
    session = open_session(path)

    def run(rows: Mapping[str, NDArray[np.generic]]) -> Arrays:
        return run_rows(session, plan.outputs, dict(rows), plan.batch_rows)

    return batch_dependence(run, plan.rows(0, TRIAL_ROWS), plan.sizes(TRIAL_BATCHES))


def _difference(found: NDArray[np.generic], expected: NDArray[np.generic], share: float, where: str) -> float:
    """The largest absolute difference of float arrays; 0 for uint8 arrays, where one level is rounding."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        ours, theirs = f"{expected.dtype}{list(expected.shape)}", f"{found.dtype}{list(found.shape)}"
        raise ParityError(f"{where} is {theirs} in onnxruntime, but {ours} in the model")
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
    found: NDArray[np.generic], smaller: NDArray[np.generic] | None, share: float, where: str
) -> None:
    """Rows of a batch must be those of a smaller batch with the same first rows."""
    if smaller is None:
        return
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
            if name in found and not _same(found[name], expected[name]):
                return describe_node(node)
    return None


def _same(found: NDArray[np.generic], expected: NDArray[np.generic]) -> bool:
    if found.shape != expected.shape:
        return False
    return largest_difference(found, expected) <= allowed_difference(expected)
