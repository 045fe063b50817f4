"""The plan of a foreign graph: adapted to a bundle, held to what its own file computes."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from latentserve_training.errors import ExportError
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.parity import check_parity
from latentserve_training.export.plan import GraphPlan
from latentserve_training.foreign.adapter import Adapter
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import Float, ForeignGraph
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.onnx_file import ForeignSession

Shape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True, kw_only=True)
class ForeignPlan(GraphPlan):
    """The plan of an adapted foreign graph."""

    description: ForeignModel
    graph: ForeignGraph
    reference: ForeignSession
    """A session of the original file."""
    source: onnx.ValueInfoProto
    """The foreign input of latents or images."""
    label: LabelInput | None
    """The foreign input of labels, where it has one."""
    shape: Shape
    """The shape of one image."""

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write the adapted graph."""

    def adapter(self, name: str, shape: tuple[int, ...], scale: float = 1.0, offset: float = 0.0) -> Adapter:
        """An adapter with the input `name` [batch, *shape], scaled and shifted, and any labels of the example."""
        adapter = Adapter(self.graph)
        adapter.feed(name, shape, self.source, scale, offset)
        if "label" in self.example:
            adapter.feed_label(self.label)
        return adapter

    def run(self, fed: Float, labels: NDArray[Any] | None) -> dict[str, Float]:
        """The original file's outputs, by name, for latents or images and, if it takes them, labels.

        Raises:
            ExportError: it cannot run these rows.
        """
        sides = [axis if isinstance(axis, int) else -1 for axis in self.reference.shape(self.source.name)[1:]]
        feeds: dict[str, NDArray[Any]] = {
            self.source.name: fed.reshape(len(fed), *sides) if sides.count(-1) < 2 else fed
        }
        if self.label is not None:
            assert labels is not None, "the example of a conditional model has labels"
            feeds[self.label.name] = self.label.rows(labels)
        try:
            return self.reference.run(feeds)
        except Exception as error:  # onnxruntime's own kinds of error have no public common class
            raise ExportError(f"{self.role}: onnxruntime cannot run batches of {len(fed)}: {error}") from error


def write_graph(plan: ForeignPlan, path: Path) -> float:
    """Write the adapted graph, check it, and return its largest difference from the foreign file.

    Raises:
        ExportError: a check failed.
    """
    plan.write(path)
    check_graph(path, plan)
    return check_parity(path, plan)


def require_size(graph: ForeignGraph, name: str, size: int, what: str) -> None:
    """Raise ExportError if the tensor is known to have a number of values per row other than `what` has."""
    shape = graph.shape(name)
    if shape is not None and math.prod(shape) != size:
        raise ExportError(
            f"{graph.role}: {name!r} is [batch, {', '.join(map(str, shape))}], but {what} has {size} values"
        )
