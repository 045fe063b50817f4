"""The run of a job: what is missing is made, by workers of Ray or by this process, and the manifest is written."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from latentserve_bulk.cluster import ray_session
from latentserve_bulk.folder import Folder
from latentserve_bulk.job import Job, RowRange
from latentserve_bulk.results import Record, Results
from latentserve_bulk.worker import Place, RangeWorker
from latentserve_server.latent.noise import NOISE_SCHEME


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """Who does the work."""

    address: str | None = None
    """Ray's; None starts one on this machine."""
    workers: int | None = None
    """Workers at a time, at most; None: as many as there is room for."""
    shard: tuple[int, int] | None = None
    """(i, n): this process alone makes every n-th range from the i-th on, without Ray."""
    quiet: bool = False
    """Whether no progress is shown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is after a run."""

    rows: int
    rejected_rows: int
    ranges: int
    is_complete: bool
    """Whether no range is missing, so that there is a manifest."""


def run(
    job: Job, place: Place, execution: Execution, ended: list[RowRange], inputs: Iterable[pa.Table] = ()
) -> Outcome:
    """Make the ranges of the job that are missing. Those that are there are added to `ended`, also as they come.

    Raises:
        BulkError: the folder is of another job, or a range cannot be made. OSError: the folder cannot be used.
    """
    results = Results(Folder(place.output), job)
    results.begin(inputs)
    mine = _shard(job.ranges, execution.shard)
    finished = results.finished()
    ended += [part for part in mine if part in finished]
    missing = [part for part in mine if part not in finished]
    with (
        closing(_make(job, place, execution, missing)) as records,
        tqdm(
            total=sum(map(len, mine)),
            initial=sum(map(len, ended)),
            unit=" rows",
            unit_scale=True,
            disable=execution.quiet,
        ) as bar,
    ):
        for record in records:
            ended.append(RowRange(record.start, record.stop))
            bar.update(record.stop - record.start)
    manifest = results.complete({"noise_scheme": NOISE_SCHEME, "written_by": version("latentserve-server")})
    there = results.finished() if manifest is None else finished
    return _outcome(manifest, list(there.values()))


def _make(job: Job, place: Place, execution: Execution, missing: Sequence[RowRange]) -> Generator[Record, None, None]:
    if not missing:
        return
    if execution.shard is not None:
        worker = RangeWorker(job, place)
        with closing(worker):
            for part in missing:
                yield worker.make(part)
        return
    with ray_session(execution.address) as session:
        yield from session.records(job, place, missing, execution.workers)


def _shard(parts: Sequence[RowRange], shard: tuple[int, int] | None) -> Sequence[RowRange]:
    if shard is None:
        return parts
    number, count = shard
    return parts[number::count]


def _outcome(manifest: dict[str, Any] | None, records: Sequence[Record]) -> Outcome:
    if manifest is not None:
        return Outcome(manifest["rows"], manifest["rejected_rows"], len(manifest["ranges"]), is_complete=True)
    rows, rejected = sum(record.file.rows for record in records), sum(record.rejected_rows for record in records)
    return Outcome(rows, rejected, len(records), is_complete=False)
