"""The plan of a foreign graph: adapted to a bundle, held to what its own file computes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, helper

from latentserve.v1 import bundle_pb2
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.digest import Digest
from latentserve_training.export.parity import RowBits, Trial
from latentserve_training.export.plan import WEIGHTS_SUFFIX, Arrays, GraphPlan
from latentserve_training.export.publish import describe_graph
from latentserve_training.export.sessions import open_session, run_rows
from latentserve_training.foreign.adapter import Adapter
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.pixels import Pixels
from latentserve_training.foreign.runner import Runner
from latentserve_training.foreign.tensor import batch_of, dtype_name

_MOST_SECONDS_OF_BITS = 0.5
"""What the trial of rows' bits may take, about, which a server repeats: no longer than a large graph takes to open."""
_FLOAT16_SHARE = 2.0**-9
"""Neighbours in float16 are up to 2^-10 of their size apart; in the logarithm of a variance it is twice as much."""


@dataclass(frozen=True, kw_only=True)
class ForeignPlan(GraphPlan):
    """The plan of an adapted foreign graph."""

    description: ForeignModel
    graph: ForeignGraph
    runner: Runner
    """The original file, as it is run."""

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

    def expected_of(self, rows: int) -> Arrays:
        """As of all rows together: a file does the same every time."""
        return {name: array[:rows] for name, array in self.expected.items()}

    def golden(self, rows: int, path: Path) -> Arrays:
        """As the file computes them; as the graph does where the file's numbers are coarse.

        onnxruntime rounds inside of the file, but not where a Cast follows that takes the rounding back.
        """
        if not self.limits:
            return super().golden(rows, path)
        return run_rows(open_session(path), self.outputs, self.rows(0, rows), self.batch_rows)

    @property
    def batch_rows(self) -> int:
        """As of the foreign graph."""
        return self.graph.fixed_rows or 0

    @property
    def cast(self) -> str:
        """A remark on what is cast in the graph; empty if the foreign graph has float32 alone."""
        others = {name: dtype for name, dtype in self.dtypes.items() if dtype != TensorProto.FLOAT}
        told = ", ".join(f"{name!r} ({dtype_name(dtype)})" for name, dtype in others.items())
        return f"{self.role}: cast from or to float32: {told}" if told else ""

    @property
    def guess(self) -> str:
        """A remark on what was understood without being described; empty if nothing was."""
        return ""

    def adapter(self) -> Adapter:
        """An adapter of the graph that asks for the example, and feeds it all but the main input."""
        adapter, source, runner = Adapter(self.graph), next(iter(self.example)), self.runner
        for name, rows in self.example.items():
            adapter.ask(name, rows.shape[1:], helper.np_dtype_to_tensor_dtype(rows.dtype))
        if runner.label is not None:
            adapter.before.rename(runner.label.feed(adapter.before, "label"), adapter.own(runner.label.name))
        for noise in runner.noises:
            noise.feed(adapter.before, adapter.own(noise.name))
        if runner.psi is not None:
            runner.psi.feed(adapter.before, adapter.own(runner.psi.name))
        for fixed in runner.fixed:
            fixed.feed(adapter.before, source, adapter.own(fixed.name))
        return adapter


@dataclass(frozen=True, kw_only=True)
class ForeignImagePlan(ForeignPlan):
    """The plan of an adapted foreign graph that draws or reads images."""

    pixels: Pixels
    """The foreign tensor of the images."""

    @property
    def guess(self) -> str:
        """A remark on the layout of the images, where the description leaves it out; empty if it is the usual one."""
        return (
            f"{self.role}: {self.pixels.tensor!r} is {batch_of(self.pixels.own_shape)}, which was read as "
            "[batch, height, width, channels], `layout: nhwc`"
        ) * self.pixels.guessed


def write_graph(plan: ForeignPlan, path: Path) -> tuple[bundle_pb2.Graph, RowBits]:
    """Write the adapted graph, check it, and return its manifest entry, and what was found of its rows' bits.

    Raises:
        ExportError: a check failed.
    """
    plan.write(path)
    weights = path.with_suffix(WEIGHTS_SUFFIX)
    digest = Digest([weights]) if weights.exists() else None
    check_graph(path, plan)
    trial = Trial(path, plan)
    difference, bits = trial.check_parity(), trial.row_bits(_MOST_SECONDS_OF_BITS)
    return describe_graph(plan.role, path, difference, plan.batch_rows, digest), bits
