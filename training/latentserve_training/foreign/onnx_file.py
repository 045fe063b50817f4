"""A foreign ONNX file as it is on disk, and a session that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from latentserve.fixed_rows import in_runs_of
from latentserve_training.errors import ExportError
from latentserve_training.export.digest import Digest
from latentserve_training.export.runtime_message import shortened
from latentserve_training.export.sessions import open_session
from latentserve_training.foreign.outside_weights import read_outline

VARYING_BATCH = (
    "export it with a batch that varies (torch.onnx.export: dynamic_shapes, of the older exporter dynamic_axes)"
)
_OTHERWISE = "export the layer from another framework or backend, or write it otherwise"


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, untouched."""

    path: Path
    model: onnx.ModelProto
    """Its model, with the values of large weights left where they are."""
    digest: Digest
    """The digest of the file's bytes followed by those of its external weights in name order."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The model in `path`, which need not be valid.

        Raises:
            ExportError: it cannot be read, or is no ONNX.
        """
        try:
            model, weights = read_outline(path)
        except ExportError:
            raise
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # protobuf and onnx each raise their own
            raise ExportError(f"{path}: not ONNX that can be used: {shortened(error)}") from error
        return cls(path, model, Digest([path, *(path.parent / name for name in sorted(weights))]))

    def reference(self, part: onnx.ModelProto, names: Sequence[str], rows: int | None) -> ForeignSession:
        """A session that computes these tensors, outputs of the file or inner ones, `rows` at a time if it has to be.

        `part` is the part of the file's model that they need; it runs where the file itself does not, or asks for more.

        Raises:
            ExportError: onnxruntime cannot run the graph.
        """
        given = {value.name for value in self.model.graph.output}
        parts = [(self._as_it_lies(part), [name for name in names if name in given])]
        if inner := [name for name in names if name not in given]:
            parts.append((self.open(with_outputs(part, inner)), inner))
        return ForeignSession([pair for pair in parts if pair[1]], rows)

    def open(self, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        """A session of a model whose weights are this file's.

        Raises:
            ExportError: onnxruntime cannot run it.
        """
        return open_session(model.SerializeToString(), self.path.parent, packs_weights=False)

    def _as_it_lies(self, part: onnx.ModelProto) -> onnxruntime.InferenceSession:
        try:
            session = open_session(self.path, packs_weights=False)
        except ExportError:
            # Shapes that lie outside of the file, which onnxruntime does not read there, ONNX as text, a newer version
            # of the format, or what onnxruntime does not know and nobody needs.
            return self.open(part)
        needed = {value.name for value in part.graph.input}
        if {value.name for value in session.get_inputs()} <= needed:
            return session
        return self.open(part)


@dataclass(frozen=True)
class ForeignSession:
    """Runs a foreign file in onnxruntime; inner tensors come from a copy in which they are outputs."""

    parts: Sequence[tuple[onnxruntime.InferenceSession, Sequence[str]]]
    rows: int | None = None
    """How many rows every run has; None for any number."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The tensors, by name, for rows of every input.

        Raises:
            ExportError: onnxruntime cannot run the graph with them.
        """
        if self.rows is None:
            try:
                return self._run(feeds)
            except ExportError as error:
                raise ExportError(f"{error}{self._remedy(feeds)}") from error
        ported = {port.name for port in self.parts[0][0].get_inputs() if port.shape[:1] == [self.rows]}
        count = max(len(fed) for name, fed in feeds.items() if name in ported)
        rowed = {name for name in ported if len(feeds[name]) == count}  # others are settings of as many values
        settings = {name: fed for name, fed in feeds.items() if name not in rowed}
        rows = {name: fed for name, fed in feeds.items() if name in rowed}
        return in_runs_of(self.rows, lambda part: self._run({**part, **settings}), rows)

    def _remedy(self, feeds: Mapping[str, NDArray[Any]]) -> str:
        """What to change in an export that does not run these rows, for a message; nothing if their values are why."""
        count = max(len(fed) for fed in feeds.values() if fed.ndim)
        first = {name: fed[:1] if fed.shape[:1] == (count,) else fed for name, fed in feeds.items()}
        if not self._runs(first):
            return f"; a batch of 1 does not run either: {_OTHERWISE}"
        if not self._runs({name: np.broadcast_to(fed, feeds[name].shape) for name, fed in first.items()}):
            return f"; a batch of 1 runs, so the number of rows is fixed inside of the graph: {VARYING_BATCH}"
        return ""

    def _runs(self, feeds: Mapping[str, NDArray[Any]]) -> bool:
        try:
            self._run(feeds)
        except ExportError:
            return False
        return True

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for session, names in self.parts:
            try:
                found |= zip(names, session.run(names, feeds), strict=True)
            except Exception as error:  # onnxruntime's own kinds of error have no public common class
                raise ExportError(shortened(error)) from error
        return found


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model with these tensors as additional outputs."""
    copy = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in copy.graph.value_info}
    given = {value.name for value in copy.graph.output}
    copy.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in names if name not in given)
    return copy
