"""A trial of a decoder that takes one psi for all rows: whether it can be made to take one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx
from numpy.typing import NDArray

from latentserve_training.errors import ExportError
from latentserve_training.export.parity import agrees
from latentserve_training.export.plan import BATCH
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.onnx_file import ForeignSession, with_outputs
from latentserve_training.foreign.psi_input import PSI
from latentserve_training.foreign.runner import Runner
from latentserve_training.foreign.tensor import as_dtype, signature

_AXES = (2, 3, 4, 1, 5)
"""Of tensors that a psi may be multiplied with, styles first: [batch, w], [batch, layer, w]."""


def take_psi_by_row(
    graph: ForeignGraph, runner: Runner, fed: NDArray[Any], inputs: Mapping[str, NDArray[Any]], tensors: Sequence[str]
) -> tuple[ForeignGraph, Runner]:
    """The graph and its runner, such that each row of a bundle has a psi of its own.

    A number for all rows is replaced by a column of numbers, of as many axes as give the file's own `tensors` for a few
    rows `fed` and `inputs` of several psis. Where none do, every run has one row.

    Raises:
        ExportError: every run has more rows, which cannot have psis of their own.
    """
    psi = runner.psi
    if psi is None or psi.has_rows or graph.fixed_rows == 1:
        return graph, runner
    expected, feeds = runner.run(fed, inputs), runner.feeds(fed, inputs)
    values = as_dtype(inputs[PSI], psi.dtype)
    for axes in _AXES:
        column = values.reshape(-1, *(1,) * (axes - 1))
        if _agrees(graph, tensors, {**feeds, psi.name: column}, psi.name, expected):
            return graph, replace(runner, psi=replace(psi, fed=(-1, *column.shape[1:])))
    otherwise = f"export it with {psi.name!r} [batch]"
    why = f"{psi.name!r} is {signature(graph.inputs[psi.name])}, and cannot be made to differ from row to row"
    if graph.fixed_rows is not None:
        raise ExportError(f"decoder: shaping.psi: {why}, while every run has {graph.fixed_rows} rows; {otherwise}")
    return graph.row_by_row(why, otherwise), runner


def _agrees(
    graph: ForeignGraph,
    tensors: Sequence[str],
    feeds: Mapping[str, NDArray[Any]],
    name: str,
    expected: Mapping[str, NDArray[Any]],
) -> bool:
    """Whether the graph gives what is expected where the input `name` is as it is fed."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    (value,) = (value for value in model.graph.input if value.name == name)
    sides = [graph.fixed_rows or BATCH, *feeds[name].shape[1:]]
    value.CopyFrom(onnx.helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, sides))
    del model.graph.value_info[:]
    try:
        session = graph.source.open(with_outputs(model, tensors))
        found = ForeignSession([(session, tensors)], graph.fixed_rows).run(feeds)
    except ExportError:
        return False
    return all(agrees(found[tensor], expected[tensor]) for tensor in tensors)
