"""What the plans of a foreign model's graphs share: the model as it is tells what the adapted one must compute."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from latentserve_training.conformance import check_graph
from latentserve_training.errors import ExportError
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import Float, ForeignGraph
from latentserve_training.graph_plan import GraphPlan
from latentserve_training.parity import check_parity

Shape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True, kw_only=True)
class ForeignPlan(GraphPlan):
    """The plan of a graph that is adapted."""

    description: ForeignModel
    graph: ForeignGraph
    session: onnxruntime.InferenceSession
    """The foreign graph as it is."""
    shape: Shape
    """Of one image."""

    @abstractmethod
    def dress(self, path: Path) -> None:
        """Write the adapted graph."""

    def run(self, fed: Float) -> dict[str, Float]:
        """The foreign graph's own outputs, by name.

        Raises:
            ExportError: it cannot run these rows.
        """
        (port,) = self.session.get_inputs()
        own = [axis if isinstance(axis, int) else -1 for axis in port.shape[1:]]
        rows = fed.reshape(len(fed), *own) if own.count(-1) < 2 else fed
        names = [output.name for output in self.session.get_outputs()]
        try:
            return dict(zip(names, self.session.run(names, {port.name: rows}), strict=True))
        except Exception as error:  # onnxruntime's own kinds of error have no public common class
            raise ExportError(f"{self.role}: onnxruntime cannot run batches of {len(fed)}: {error}") from error


def write_graph(plan: ForeignPlan, path: Path) -> float:
    """Write the adapted graph, check it, and return its largest difference from the foreign one.

    Raises:
        ExportError: a check failed.
    """
    plan.dress(path)
    check_graph(path, plan)
    return check_parity(path, plan)


def require_size(graph: ForeignGraph, name: str, size: int, what: str) -> None:
    """Raise ExportError where the tensor is known to have another number of values a row than `what` has."""
    shape = graph.shape(name)
    if shape is not None and math.prod(shape) != size:
        raise ExportError(
            f"{graph.role}: {name!r} is [batch, {', '.join(map(str, shape))}], but {what} has {size} values"
        )
