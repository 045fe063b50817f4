"""The worker: a process, or an actor of Ray, that makes ranges of a job and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentserve_bulk.errors import BulkError, RowRejected
from latentserve_bulk.folder import Folder
from latentserve_bulk.job import Job, RowRange
from latentserve_bulk.lake import Lake
from latentserve_bulk.lake_rows import LakeMaker
from latentserve_bulk.results import Made, Record, Results
from latentserve_bulk.samples import SampleMaker
from latentserve_server.errors import LatentServeError
from latentserve_server.offline.model import OfflineModel, OfflineOptions
from latentserve_server.offline.version import found_version


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a job is done, which changes none of its rows."""

    repository: str
    """The directory or URL of the model, as every worker reaches it."""
    output: str
    """The path or URL of the output folder, as every worker reaches it."""
    threads: int
    """Threads of each worker."""
    images: str = ""
    """The path or URL of the lake, as every worker reaches it; empty where there is none."""
    cache: str = ""
    """Directory for the bundles of a URL; empty for one that goes with the process."""
    strict: bool = False
    """Whether a row that cannot be made stops the job."""


class RangeWorker:
    """Opens the model with its first range, and keeps it open. An actor of Ray Data, or used as it is."""

    def __init__(self, job: Job, place: Place) -> None:
        self._job = job
        self._place = place
        self._results = Results(Folder(place.output), job)
        self._opened = ExitStack()
        self._maker: SampleMaker | LakeMaker | None = None

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Make the ranges of a batch, columns "start" and "stop"; returns "record", JSON, or "error", and "start"."""
        records, errors = [], []
        for start, stop in zip(batch["start"].tolist(), batch["stop"].tolist(), strict=True):
            try:
                records.append(self.make(RowRange(start, stop)).to_json())
                errors.append("")
            except BulkError as error:
                records.append("")
                errors.append(str(error))
        return {"record": np.array(records, object), "error": np.array(errors, object)}

    def make(self, part: RowRange) -> Record:
        """Make a range and write it.

        Raises:
            BulkError: the model cannot be opened, a file cannot be written, or, where the job is strict, a row cannot
                be made.
        """
        try:
            maker = self._open()
            return self._results.write(part, lambda sink: self._checked(maker.make(part, sink)))
        except OSError as error:
            raise BulkError(f"{self._place.output}: {error.strerror or error}") from error
        except LatentServeError as error:
            raise BulkError(f"{self._job.model}:{self._job.version}: {error}") from error

    def _checked(self, made: Made) -> Made:
        if made.rejected_rows and self._place.strict:
            raise RowRejected(f"--strict: {_first_reason(made)}")
        return made

    def close(self) -> None:
        """Close the model."""
        self._opened.close()
        self._maker = None

    def _open(self) -> SampleMaker | LakeMaker:
        if self._maker is not None:
            return self._maker
        job, cache = self._job, Path(self._place.cache) if self._place.cache else None
        found = self._opened.enter_context(found_version(self._place.repository, job.model, job.version, cache=cache))
        if found.digest != job.digest:
            raise BulkError(f"{job.model}:{job.version}: {self._place.repository} has another bundle than the job")
        options = OfflineOptions(
            device=job.device,
            threads=self._place.threads,
            precision=job.precision,
            numerics=job.numerics,
            max_batch_rows=job.batch_rows,
        )
        model = OfflineModel(found, options)
        self._opened.callback(model.close)
        if job.images is None:
            self._maker = SampleMaker(job, found, model)
        else:
            lake = Lake(self._place.images, job.images.column)
            self._maker = LakeMaker(job, found, model, lake, self._results.inputs)
        return self._maker


def _first_reason(made: Made) -> str:
    """The first row that could not be made, and why."""
    row = pq.read_table(pa.BufferReader(made.rejected)).slice(0, 1).to_pylist()[0]
    where = f" ({row['source']})" if row["source"] else ""
    return f"row {row['index']}{where}: {row['reason']}"
