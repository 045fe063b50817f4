"""A foreign ONNX file as it is on disk, and a session that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import onnx
import onnxruntime
from numpy.typing import NDArray

from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import tensors
from latentserve_training.export.sessions import open_session

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, untouched."""

    path: Path
    model: onnx.ModelProto
    """Its model, with all weights loaded, external ones as well."""
    sha256: str
    """Digest, in hexadecimal, of the file's bytes followed by those of its external weights in name order."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The model in `path`.

        Raises:
            ExportError: it cannot be read, or is not valid ONNX.
        """
        try:
            model = onnx.load(path, load_external_data=False)
            weights = sorted({_location(tensor) for tensor in tensors(model)} - {""})
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
            digest = _sha256([path, *(path.parent / name for name in weights)])
            onnx.checker.check_model(model, full_check=True)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # protobuf and the checker each raise their own
            raise ExportError(f"{path}: not ONNX that can be used: {error}") from error
        return cls(path, model, digest)

    def reference(self, names: Sequence[str]) -> ForeignSession:
        """A session that computes these tensors, outputs or inner ones of the graph.

        Raises:
            ExportError: onnxruntime cannot run the graph.
        """
        given = {value.name for value in self.model.graph.output}
        parts = [(self._as_it_lies(), [name for name in names if name in given])]
        if inner := [name for name in names if name not in given]:
            parts.append((open_session(with_outputs(self.model, inner).SerializeToString()), inner))
        return ForeignSession(parts)

    def _as_it_lies(self) -> onnxruntime.InferenceSession:
        try:
            return open_session(self.path)
        except ExportError:
            # Shapes that lie outside of the file, which onnxruntime does not read there, or ONNX as text.
            return open_session(self.model.SerializeToString())


@dataclass(frozen=True)
class ForeignSession:
    """Runs a foreign file in onnxruntime; inner tensors come from a copy in which they are outputs."""

    parts: Sequence[tuple[onnxruntime.InferenceSession, Sequence[str]]]

    def shape(self, name: str) -> list[int | str | None]:
        """The shape of an input, with its batch axis, as onnxruntime reports it."""
        (shape,) = [port.shape for port in self.parts[0][0].get_inputs() if port.name == name]
        return list(shape)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The tensors, by name; onnxruntime's errors pass through."""
        found: dict[str, NDArray[Any]] = {}
        for session, names in self.parts:
            found |= zip(names, session.run(names, feeds), strict=True)
        return found


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model with these tensors as additional outputs."""
    copy = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in copy.graph.value_info}
    given = {value.name for value in copy.graph.output}
    copy.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in names if name not in given)
    return copy


def _location(tensor: onnx.TensorProto) -> str:
    """The name of the tensor's external file; empty if its values are in the graph's own."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return ""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
