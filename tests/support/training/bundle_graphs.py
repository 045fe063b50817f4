"""The graphs of an exported bundle, and what onnxruntime computes with them."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from google.protobuf.json_format import Parse

from latentserve.v1 import bundle_pb2
from latentserve_training.export.plan import Arrays


def graphs(bundle: Path, precision: str) -> dict[str, bundle_pb2.Graph]:
    """The entries of a precision, by role."""
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    wanted = bundle_pb2.Precision.Value(f"PRECISION_{precision.upper()}")
    found = [graph for graph in manifest.graphs if graph.precision == wanted]
    return {bundle_pb2.GraphRole.Name(graph.role).removeprefix("GRAPH_ROLE_").lower(): graph for graph in found}


def outputs(path: Path, inputs: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
