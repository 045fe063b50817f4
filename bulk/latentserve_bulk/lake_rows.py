"""Ranges of a lake of images: encoded, scored or reconstructed, with the bits that the server gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_bulk.job import ImageForm, ImageOptions, Job, RowRange
from latentserve_bulk.lake import Lake, Row
from latentserve_bulk.results import Made
from latentserve_bulk.samples import FORMS
from latentserve_bulk.table import (
    REJECTED,
    ParquetFile,
    image_column,
    image_field,
    rows_of_group,
    tensor_column,
    tensor_field,
)
from latentserve_server.errors import InvalidArgument
from latentserve_server.model.kind import KINDS
from latentserve_server.model.scorer import Scorer
from latentserve_server.offline.model import OfflineModel, Rows
from latentserve_server.offline.pictures import check_files, picture_pixels, tensor_pixels
from latentserve_server.offline.requests import labels_of
from latentserve_server.offline.version import FoundVersion

_CAPABILITIES = {
    "encode": models_pb2.CAPABILITY_ENCODE,
    "score": models_pb2.CAPABILITY_SCORE,
    "reconstruct": models_pb2.CAPABILITY_RECONSTRUCT,
}
_SCORED = ("reconstruction_error", "kl", "elbo", "anomaly_percentile")
_RECONSTRUCTED = ("reconstruction_error", "kl")
_MOST_AT_ONCE = 1024

Columns = Mapping[str, NDArray[Any]]


def check_ability(found: FoundVersion, command: str) -> None:
    """Refuse a model that does not answer such calls.

    Raises:
        CapabilityMissing: it does not.
    """
    found.abilities.check(_CAPABILITIES[command])


def check_images(found: FoundVersion, command: str, options: ImageOptions) -> None:
    """Refuse images and labels that are none of the model's.

    Raises:
        InvalidArgument: with what is wrong.
    """
    labels_of(found, options.labels).check_rows(1)
    if options.kind == "pictures" or (command == "reconstruct" and options.image == "png"):
        check_files(found.manifest.image)


def lake_row_bytes(manifest: bundle_pb2.Manifest, command: str, form: ImageForm) -> int:
    """Bytes of a row, before it is packed, beside a source of some hundred."""
    pixels = math.prod(_image_shape(manifest)) * (4 if form == "float32" else 1)
    return 128 + {"encode": 8 * manifest.latent.dim, "score": 16, "reconstruct": pixels + 8}[command]


class LakeMaker:
    """Makes the ranges of one job with a model that is open."""

    def __init__(
        self, job: Job, found: FoundVersion, model: OfflineModel, lake: Lake, pieces: Callable[[RowRange], pa.Table]
    ) -> None:
        """`pieces` gives those of a range, as `lake.PIECES`."""
        assert job.images is not None
        self._options = job.images
        self._command = job.command
        self._model = model
        self._lake = lake
        self._pieces = pieces
        self._spec = found.manifest.image
        self._labels = labels_of(found, job.images.labels)
        latent = found.manifest.latent
        self._latent_shape = tuple(latent.shape) or (latent.dim,)
        self._encodes = KINDS[found.manifest.kind].encodes
        self._scores = _score_names(found.manifest, job.command)
        self._schema = self._columns(found.manifest)
        pixel_bytes = 4 * math.prod(_image_shape(found.manifest))
        row_bytes = lake_row_bytes(found.manifest, job.command, job.images.image)
        self._at_once = min(rows_of_group(pixel_bytes), _MOST_AT_ONCE)
        self._group_rows = rows_of_group(row_bytes)

    def make(self, part: RowRange, sink: Any) -> Made:
        """Write the rows of a range to a sink, as Parquet."""
        repeats = self._command == "reconstruct" and self._options.image == "uint8"
        rows = ParquetFile(sink, self._schema, repeats=repeats, group_rows=self._group_rows)
        unmade = pa.BufferOutputStream()
        rejected = ParquetFile(unmade, REJECTED)
        index = part.start
        for read in self._lake.rows(self._pieces(part), self._options.kind, self._at_once):
            self._add(read, index, rows, rejected)
            index += len(read)
        rows.close()
        rejected.close()
        return Made(rows.rows, unmade.getvalue(), rejected.rows, self._model.numerics, str(self._model.device))

    def _add(self, read: Sequence[Row], first: int, rows: ParquetFile, rejected: ParquetFile) -> None:
        """Add images, of which the first has this index."""
        reasons: dict[int, str] = {}
        pixels = list[NDArray[np.float32]]()
        whole = list[int]()
        for number, row in enumerate(read):
            try:
                pixels.append(self._pixels(row))
                whole.append(number)
            except InvalidArgument as error:
                reasons[number] = str(error).removeprefix("image: ")
        made, outputs = self._run(np.stack(pixels)) if pixels else (Rows({}, {}), {})
        reasons |= {whole[number]: why for number, why in made.failed.items()}
        kept = [number for number in range(len(whole)) if number not in made.failed]
        if kept:
            numbers = [whole[number] for number in kept]
            columns = {name: values[kept] for name, values in outputs.items()}
            rows.add(self._arrow(columns, [first + number for number in numbers], [read[i].source for i in numbers]))
        failed = sorted(reasons)
        rejected.add(
            {
                "index": pa.array([first + number for number in failed], pa.int64()),
                "source": pa.array([read[number].source for number in failed], pa.string()),
                "reason": pa.array([reasons[number] for number in failed], pa.string()),
            }
        )

    def _pixels(self, row: Row) -> NDArray[np.float32]:
        if row.data is None:
            raise InvalidArgument("image", row.problem or "there is none")
        if isinstance(row.data, bytes):
            return picture_pixels(row.data, self._spec, resize=self._options.resize)
        shape = (self._spec.channels, self._spec.height, self._spec.width)
        flat = row.data.ndim == 1 and row.data.size == math.prod(shape)
        plane = shape[0] == 1 and row.data.shape == shape[1:]
        return tensor_pixels(row.data.reshape(shape) if flat or plane else row.data, self._spec)

    def _run(self, images: NDArray[np.float32]) -> tuple[Rows, Columns]:
        """What the model makes of images, and the columns of it."""
        if self._command == "encode":
            rows = self._model.encode(images, self._labels)
            return rows, dict(rows.outputs)
        form = FORMS[self._options.image]
        rows, scores = self._model.reconstruct(images, self._labels, [form] if self._command == "reconstruct" else [])
        found = {name: getattr(scores, name) for name in self._scores}
        pixels = {"image": rows.outputs[form]} if self._command == "reconstruct" and form in rows.outputs else {}
        return rows, pixels | {name: values for name, values in found.items() if values is not None}

    def _arrow(self, outputs: Columns, indices: Sequence[int], sources: Sequence[str]) -> Mapping[str, pa.Array]:
        columns = {"index": pa.array(indices, pa.int64()), "source": pa.array(sources, pa.string())}
        for name, values in outputs.items():
            if name == "image":
                columns[name] = image_column(self._options.image, values)
            elif name in self._encodes:
                columns[name] = tensor_column(values, self._latent_shape)
            else:
                columns[name] = pa.array(values, pa.float32())
        return columns

    def _columns(self, manifest: bundle_pb2.Manifest) -> pa.Schema:
        fields = [pa.field("index", pa.int64(), nullable=False), pa.field("source", pa.string(), nullable=False)]
        if self._command == "encode":
            dtype = np.int64 if manifest.latent.codes else np.float32
            return pa.schema([*fields, *(tensor_field(name, dtype, self._latent_shape) for name in self._encodes)])
        if self._command == "reconstruct":
            fields.append(image_field(self._options.image, _image_shape(manifest)))
        return pa.schema([*fields, *(pa.field(name, pa.float32(), nullable=False) for name in self._scores)])


def _score_names(manifest: bundle_pb2.Manifest, command: str) -> Sequence[str]:
    """The scores that rows of the command have, of those that the model has."""
    scorer = Scorer.of(manifest)
    if scorer is None or command == "encode":
        return ()
    known = {*scorer.names, *(["elbo"] if "kl" in scorer.names else [])}
    return [name for name in (_SCORED if command == "score" else _RECONSTRUCTED) if name in known]


def _image_shape(manifest: bundle_pb2.Manifest) -> tuple[int, int, int]:
    return manifest.image.channels, manifest.image.height, manifest.image.width
