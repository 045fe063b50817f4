"""A request held to the model that it names: the job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from latentserve_bulk.command_line import Request
from latentserve_bulk.errors import BulkError
from latentserve_bulk.job import Job, range_rows_of
from latentserve_bulk.samples import check_sample, sample_row_bytes
from latentserve_server.errors import LatentServeError
from latentserve_server.offline.version import FoundVersion, found_version


def plan(request: Request) -> Job:
    """The job that is asked for. Of the bundle, the manifest alone is read.

    Raises:
        BulkError: there is no such model, or it cannot do what is asked for.
    """
    model, place = request.model, request.place
    cache = Path(place.cache) if place.cache else None
    try:
        with found_version(place.repository, model.name, model.version, model.alias, cache) as found:
            options = replace(request.sample, labels=_labels(found, request.labels))
            check_sample(found, options, request.rows)
            row_bytes = sample_row_bytes(found.manifest, options)
            return Job(
                command="sample",
                model=found.name,
                version=found.version,
                digest=found.digest,
                rows=request.rows,
                range_rows=request.range_rows or range_rows_of(request.rows, row_bytes),
                batch_rows=request.batch_rows,
                device=request.device,
                precision=request.precision,
                numerics=request.numerics,
                sample=options,
            )
    except LatentServeError as error:
        raise BulkError(str(error)) from error


def _labels(found: FoundVersion, words: tuple[str, ...]) -> tuple[int, ...]:
    """The labels, each by its number or its name."""
    names = {name: number for number, name in enumerate(found.manifest.labels.names)}
    strange = [word for word in words if not word.isdecimal() and word not in names]
    if strange:
        raise BulkError(f"--labels: {strange[0]!r} is neither a number nor the name of a label of {found.name}")
    return tuple(int(word) if word.isdecimal() else names[word] for word in words)
