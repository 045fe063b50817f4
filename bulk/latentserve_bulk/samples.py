"""Ranges of samples: the images of a seed's indices, with the bits that the server gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve_bulk.job import ImageForm, Job, RowRange, SampleOptions
from latentserve_bulk.results import Made
from latentserve_bulk.table import (
    REJECTED,
    ParquetFile,
    image_column,
    image_field,
    rows_of_group,
    tensor_column,
    tensor_field,
)
from latentserve_server.model.requests import FLOAT32_PIXELS, UINT8_PIXELS
from latentserve_server.offline.model import OfflineModel
from latentserve_server.offline.pictures import check_files
from latentserve_server.offline.requests import Draws, sample_request
from latentserve_server.offline.version import FoundVersion

FORMS: Mapping[ImageForm, str] = {"png": UINT8_PIXELS, "uint8": UINT8_PIXELS, "float32": FLOAT32_PIXELS}
"""The decoder's output that images of each form are made of."""


def check_sample(found: FoundVersion, options: SampleOptions, rows: int) -> None:
    """Refuse what the model cannot be asked for.

    Raises:
        InvalidArgument, CapabilityMissing: with what is wrong.
    """
    sample_request(found, draws_of(options), options.first_index, rows)
    if options.image == "png":
        check_files(found.manifest.image)


def draws_of(options: SampleOptions) -> Draws:
    """What is drawn of the seed."""
    return Draws(
        seed=options.seed,
        prior=options.prior,
        temperature=options.temperature,
        truncation=options.truncation,
        psi=options.psi,
        labels=options.labels,
    )


def sample_row_bytes(manifest: bundle_pb2.Manifest, options: SampleOptions) -> int:
    """Bytes of a row, before it is packed."""
    pixels = math.prod(_image_shape(manifest)) * (4 if options.image == "float32" else 1)
    return 24 + pixels + (8 * manifest.latent.dim if options.latents else 0)


class SampleMaker:
    """Makes the ranges of one job with a model that is open."""

    def __init__(self, job: Job, found: FoundVersion, model: OfflineModel) -> None:
        assert job.sample is not None
        self._options = job.sample
        self._found = found
        self._model = model
        self._group_rows = rows_of_group(sample_row_bytes(found.manifest, job.sample))
        latent = found.manifest.latent
        self._latent_shape = tuple(latent.shape) or (latent.dim,)
        self._latent = "codes" if latent.codes else "latent"
        self._schema = self._columns()

    def make(self, part: RowRange, sink: Any) -> Made:
        """Write the rows of a range to a sink, as Parquet."""
        rows = ParquetFile(sink, self._schema, repeats=self._options.image == "uint8")
        unmade = pa.BufferOutputStream()
        rejected = ParquetFile(unmade, REJECTED)
        for start in range(part.start, part.stop, self._group_rows):
            self._add(start, min(start + self._group_rows, part.stop), rows, rejected)
        rows.close()
        rejected.close()
        return Made(rows.rows, unmade.getvalue(), rejected.rows, self._model.numerics, str(self._model.device))

    def _add(self, start: int, stop: int, rows: ParquetFile, rejected: ParquetFile) -> None:
        """Add rows `start` to `stop - 1` of the job."""
        options, first = self._options, self._options.first_index + start
        form = FORMS[options.image]
        request = sample_request(self._found, draws_of(options), first, stop - start, form)
        made, labels = self._model.sample(request, latents=options.latents)
        indices = np.arange(first, first + stop - start, dtype=np.int64)
        failed = sorted(made.failed)
        rejected.add(
            {
                "index": pa.array(indices[failed]),
                "source": pa.nulls(len(failed), pa.string()),
                "reason": pa.array([made.failed[row] for row in failed], pa.string()),
            }
        )
        if len(failed) < len(indices):
            kept = np.delete(np.arange(len(indices)), failed) if failed else slice(None)
            rows.add(self._arrow(made.outputs, kept, indices, labels))

    def _arrow(
        self, outputs: Mapping[str, NDArray[Any]], kept: Any, indices: NDArray[np.int64], labels: Any
    ) -> Mapping[str, pa.Array]:
        """The columns of the rows that are kept, of those that were made."""
        options, count = self._options, len(indices[kept])
        columns = {
            "index": pa.array(indices[kept]),
            "seed": pa.array(np.full(count, options.seed, np.uint64)),
        }
        if labels is not None:
            columns["label"] = pa.array(labels[kept])
        columns["image"] = image_column(options.image, outputs[FORMS[options.image]][kept])
        if options.latents:
            columns[self._latent] = tensor_column(outputs[self._latent][kept], self._latent_shape)
        return columns

    def _columns(self) -> pa.Schema:
        manifest, options = self._found.manifest, self._options
        fields = [pa.field("index", pa.int64(), nullable=False), pa.field("seed", pa.uint64(), nullable=False)]
        if manifest.labels.count:
            fields.append(pa.field("label", pa.int64(), nullable=False))
        fields.append(image_field(options.image, _image_shape(manifest)))
        if options.latents:
            dtype = np.int64 if manifest.latent.codes else np.float32
            fields.append(tensor_field(self._latent, dtype, self._latent_shape))
        return pa.schema(fields)


def _image_shape(manifest: bundle_pb2.Manifest) -> tuple[int, int, int]:
    return manifest.image.channels, manifest.image.height, manifest.image.width
