"""The content of a bundle, written and published: graphs, golden rows, card and manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import onnx
from PIL.Image import Image
from safetensors.numpy import save

from latentserve.v1 import bundle_pb2, tensor_pb2
from latentserve_training.evaluation.mixture import Mixture
from latentserve_training.evaluation.report import Report
from latentserve_training.export.bundle import (
    describe,
    staging,
    write_manifest,
)
from latentserve_training.export.card import card
from latentserve_training.export.destination import Destination
from latentserve_training.export.digest import Digest
from latentserve_training.export.onnx_model import opset
from latentserve_training.export.parity import RowBits
from latentserve_training.export.plan import WEIGHTS_SUFFIX, Arrays, GraphPlan
from latentserve_training.image_grid import write_png

GOLDEN_ROWS = 8
CHECK_ROWS = 64
_DTYPES: dict[int, tensor_pb2.DType] = {
    onnx.TensorProto.FLOAT: tensor_pb2.DTYPE_FLOAT32,
    onnx.TensorProto.UINT8: tensor_pb2.DTYPE_UINT8,
    onnx.TensorProto.INT64: tensor_pb2.DTYPE_INT64,
}
ROLES = {
    "encoder": bundle_pb2.GRAPH_ROLE_ENCODER,
    "decoder": bundle_pb2.GRAPH_ROLE_DECODER,
    "prior": bundle_pb2.GRAPH_ROLE_PRIOR,
}
_LIKELIHOODS = {
    "bernoulli": bundle_pb2.LIKELIHOOD_BERNOULLI,
    "gaussian": bundle_pb2.LIKELIHOOD_GAUSSIAN,
    "discretized_logistic": bundle_pb2.LIKELIHOOD_DISCRETIZED_LOGISTIC,
}

Plan = TypeVar("Plan", bound=GraphPlan)


@dataclass(frozen=True, kw_only=True)
class Content(Generic[Plan]):
    """The contents of a bundle."""

    manifest: bundle_pb2.Manifest
    """The manifest without its files, which are added as they are written."""
    plans: Sequence[Plan]
    samples: Image | None
    """Images that the model draws, for bundles without a `samples.png`; absent of a model that draws none."""
    pictures: Sequence[Path] = ()
    """PNG files to go with it; `samples.png` is what the model draws."""
    mixture: Mixture | None = None
    """The fitted mixture, where the manifest has one."""
    report: Report | None = None
    """The evaluation of these weights, for the card."""
    remarks: Sequence[str] = ()
    """What a person should know of how the bundle was made, for the card."""
    collapse: str = ""
    """How the samples have collapsed, for the card; empty if they have not."""


class Written(NamedTuple):
    """A graph in a bundle's folder."""

    entry: bundle_pb2.Graph
    remark: str = ""
    """What a person should know of how it was checked, for the card."""


def publish(
    content: Content[Plan],
    destination: Destination,
    write_graphs: Callable[[Plan, Path], Iterable[Written]],
) -> Path:
    """Write, check and publish the bundle; returns its folder.

    `write_graphs` writes a plan's graphs into a folder, checked.

    Raises:
        ExportError: a check failed, or the version is taken. Nothing is left behind.
    """
    manifest = bundle_pb2.Manifest()
    manifest.CopyFrom(content.manifest)
    with staging(destination.folder) as folder:
        remarks = [*content.remarks]
        for plan in content.plans:
            for graph, remark in write_graphs(plan, folder):
                manifest.graphs.append(graph)
                remarks += [remark] if remark else []
        # As they lie in memory is how safetensors writes arrays, whatever their strides.
        rows = {name: np.ascontiguousarray(array) for name, array in golden_rows(content.plans, folder).items()}
        # The library would write a file that its owner alone may read, and a server runs as a user of its own.
        (folder / "golden.safetensors").write_bytes(save(rows))
        manifest.golden.CopyFrom(describe(folder / "golden.safetensors"))
        if content.mixture is not None:
            content.mixture.save(folder / "mixture.safetensors")
            manifest.latent.mixture.file.CopyFrom(describe(folder / "mixture.safetensors"))
        for picture in content.pictures:
            shutil.copyfile(picture, folder / picture.name)
        if content.samples is not None and not (folder / "samples.png").exists():
            write_png(content.samples, folder / "samples.png")
        manifest.files.extend(describe(picture) for picture in sorted(folder.glob("*.png")))
        (folder / "CARD.md").write_text(card(manifest, content.report, content.collapse, remarks), encoding="utf-8")
        manifest.files.append(describe(folder / "CARD.md"))
        write_manifest(manifest, folder)
    return destination.folder


def tried(graph: bundle_pb2.Graph, bits: RowBits, warn: Callable[[str], None]) -> Written:
    """The graph with its entry marked, and `warn` told, if a row's bits were found to depend on its batch."""
    if bits.dependence:
        warn(
            f"{graph.file.path}: the last bits of a row depend on its batch ({bits.dependence}); a server promises none"
        )
        graph.batch_dependent = True
    return Written(graph)


def golden_rows(plans: Sequence[GraphPlan], folder: Path) -> Arrays:
    """Input rows and the model's output rows for every graph in the folder, named "<role>.<tensor>"."""
    golden: Arrays = {}
    for plan in plans:
        rows = {**plan.rows(0, GOLDEN_ROWS), **plan.golden(GOLDEN_ROWS, folder / f"{plan.role}.onnx")}
        golden |= {f"{plan.role}.{name}": array for name, array in rows.items()}
    return golden


def describe_model(
    *,
    name: str,
    kind: bundle_pb2.ModelKind,
    latent: bundle_pb2.LatentSpec,
    image_shape: tuple[int, int, int],
    reading: bundle_pb2.PictureReading,
    likelihood: str | None,
    label_count: int,
    label_names: Sequence[str],
    provenance: bundle_pb2.Provenance,
    license_id: str,
) -> bundle_pb2.Manifest:
    """The manifest without its files.

    `image_shape` is channels, height and width, of pixels in [0, 1], and `reading` how picture files become such; a
    `label_count` of 0 is that of a model without labels, whose data may have named some; `license_id` is an SPDX
    identifier or empty.
    """
    channels, height, width = image_shape
    return bundle_pb2.Manifest(
        format_version=1,
        name=name,
        kind=kind,
        latent=latent,
        image=bundle_pb2.ImageSpec(
            channels=channels, height=height, width=width, min_value=0.0, max_value=1.0, reading=reading
        ),
        likelihood=None if likelihood is None else _LIKELIHOODS[likelihood],
        labels=bundle_pb2.LabelSpec(count=label_count, names=label_names) if label_count else None,
        provenance=provenance,
        license=license_id,
    )


def describe_graph(
    role: str, path: Path, parity: float, batch_rows: int = 0, weights_digest: Digest | None = None
) -> bundle_pb2.Graph:
    """The manifest entry of a float32 graph's file, which differs by `parity` from its model.

    `batch_rows` is the number of rows of every run, where it takes no other; `weights_digest` that of the file beside
    it, where it has one.
    """
    model, weights = onnx.load(path, load_external_data=False), path.with_suffix(WEIGHTS_SUFFIX)
    return bundle_pb2.Graph(
        role=ROLES[role],
        file=describe(path),
        inputs=[_spec(value) for value in model.graph.input],
        outputs=[_spec(value) for value in model.graph.output],
        opset=opset(model),
        parity_max_abs_error=parity,
        precision=bundle_pb2.PRECISION_FLOAT32,
        batch_rows=batch_rows,
        weights=describe(weights, weights_digest) if weights_digest else None,
    )


def _spec(value: onnx.ValueInfoProto) -> bundle_pb2.TensorSpec:
    tensor = value.type.tensor_type
    shape = [axis.dim_value for axis in tensor.shape.dim][1:]
    return bundle_pb2.TensorSpec(name=value.name, dtype=_DTYPES[tensor.elem_type], shape=shape)
