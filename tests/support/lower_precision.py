"""A graph in lower precision, put into a bundle beside the float32 one of its role."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
from google.protobuf.json_format import MessageToJson, Parse

from latentserve.v1 import bundle_pb2


def add_int8(
    bundle: Path, role: str, edit: Callable[[onnx.ModelProto], None], conversion: bundle_pb2.Conversion | None = None
) -> None:
    """A second graph of the role, edited, which the manifest calls int8; the other role's stays alone."""
    edit(model := onnx.load(bundle / f"{role}.onnx"))
    content, path = model.SerializeToString(), f"{role}.int8.onnx"
    (bundle / path).write_bytes(content)
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    (exact,) = [graph for graph in manifest.graphs if bundle_pb2.GraphRole.Name(graph.role).endswith(role.upper())]
    (entry := manifest.graphs.add()).CopyFrom(exact)
    digest = hashlib.sha256(content).hexdigest()
    entry.file.CopyFrom(bundle_pb2.File(path=path, sha256=digest, size_bytes=len(content)))
    entry.precision = bundle_pb2.PRECISION_INT8
    entry.conversion.CopyFrom(conversion or bundle_pb2.Conversion())
    (bundle / "manifest.json").write_text(MessageToJson(manifest, preserving_proto_field_name=True))
