"""The plan of a foreign graph: adapted to a bundle, held to what its own file computes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.errors import ExportError
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.parity import check_parity
from latentserve_training.export.plan import Arrays, GraphPlan
from latentserve_training.export.sessions import open_session
from latentserve_training.foreign.adapter import Adapter
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.fixed_input import FixedInput
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.onnx_file import ForeignSession
from latentserve_training.foreign.pixels import Pixels
from latentserve_training.foreign.tensor import as_dtype, dtype_name, row_shape

_FLOAT16_SHARE = 2.0**-9
"""Neighbours in float16 are up to 2^-10 of their size apart; in the logarithm of a variance it is twice as much."""


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
    fixed: tuple[FixedInput, ...]
    """The foreign inputs that are the same in every call."""
    pixels: Pixels
    """The foreign tensor of the images."""

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write the adapted graph."""

    @property
    @abstractmethod
    def dtypes(self) -> dict[str, int]:
        """The element types, of onnx.TensorProto's, of the foreign graph's tensors that a bundle has as float32."""

    @property
    def limits(self) -> dict[str, float]:
        """A number may become its neighbour, where the foreign graph has fewer of them than float32."""
        return dict.fromkeys(self.outputs, _FLOAT16_SHARE) if TensorProto.FLOAT16 in self.dtypes.values() else {}

    def golden(self, inputs: Arrays, path: Path) -> Arrays:
        """As the file computes them; as the graph does where the file's numbers are coarse.

        onnxruntime rounds inside of the file, but not where a Cast follows that takes the rounding back.
        """
        if not self.limits:
            return self.compute(inputs)
        session = open_session(path.read_bytes())
        return dict(zip(self.outputs, session.run(list(self.outputs), inputs), strict=True))

    @property
    def cast(self) -> str:
        """A remark on what is cast in the graph; empty if the foreign graph has float32 alone."""
        others = {name: dtype for name, dtype in self.dtypes.items() if dtype != TensorProto.FLOAT}
        told = ", ".join(f"{name!r} ({dtype_name(dtype)})" for name, dtype in others.items())
        return f"{self.role}: cast from or to float32: {told}" if told else ""

    @property
    def guess(self) -> str:
        """A remark on the layout of the images, where the description leaves it out; empty if it is the usual one."""
        sides = ", ".join(map(str, self.pixels.own_shape))
        return (
            f"{self.role}: {self.pixels.tensor!r} is [batch, {sides}], which was read as [batch, height, width, "
            "channels], `layout: nhwc`"
        ) * self.pixels.guessed

    def adapter(self) -> Adapter:
        """An adapter of the graph that feeds it the labels of the example, if any, and its fixed inputs."""
        adapter, source = Adapter(self.graph), next(iter(self.example))
        adapter.ask(source, self.example[source].shape[1:])
        if "label" in self.example:
            labels = adapter.ask("label", (), TensorProto.INT64)
            if self.label is not None:
                adapter.before.rename(self.label.feed(adapter.before, labels), adapter.own(self.label.name))
        for fixed in self.fixed:
            fixed.feed(adapter.before, source, adapter.own(fixed.name))
        return adapter

    def run(self, fed: NDArray[Any], labels: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        """The original file's tensors, by name, for latents or images and, if it takes them, labels.

        Raises:
            ExportError: it cannot run these rows.
        """
        sides = row_shape(self.source, fed.shape[1:])
        rows = as_dtype(fed, self.source.type.tensor_type.elem_type).reshape(len(fed), *sides)
        feeds = {self.source.name: np.ascontiguousarray(rows)}
        if self.label is not None:
            assert labels is not None, "the example of a conditional model has labels"
            feeds[self.label.name] = self.label.rows(labels)
        feeds |= {fixed.name: fixed.rows(len(fed)) for fixed in self.fixed}
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
