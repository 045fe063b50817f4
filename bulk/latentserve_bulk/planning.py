"""A request held to the model that it names: the job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from latentserve_bulk.command_line import Request
from latentserve_bulk.errors import BulkError
from latentserve_bulk.job import ImageOptions, Job, SampleOptions, range_rows_of
from latentserve_bulk.lake import Lake
from latentserve_bulk.lake_rows import check_ability, check_images, lake_row_bytes
from latentserve_bulk.samples import check_sample, sample_row_bytes
from latentserve_server.errors import LatentServeError
from latentserve_server.offline.version import FoundVersion, found_version


def plan(request: Request) -> tuple[Job, Iterable[pa.Table]]:
    """The job that is asked for, and where the images of each of its ranges are, of a job over a lake.

    Of the bundle, the manifest alone is read; of a lake, the names of its files.

    Raises:
        BulkError: there is no such model, it cannot do what is asked for, or there are no images.
    """
    model, place = request.model, request.place
    cache = Path(place.cache) if place.cache else None
    try:
        with found_version(place.repository, model.name, model.version, model.alias, cache) as found:
            return _planned(request, found)
    except LatentServeError as error:
        raise BulkError(str(error)) from error
    except OSError as error:
        raise BulkError(f"{place.images}: {error.strerror or error}") from error


def _planned(request: Request, found: FoundVersion) -> tuple[Job, Iterable[pa.Table]]:
    if request.sample is not None:
        options = replace(request.sample, labels=_labels(found, request.labels))
        check_sample(found, options, request.rows)
        return _job(request, found, request.rows, sample_row_bytes(found.manifest, options), sample=options), ()
    assert request.images is not None
    check_ability(found, request.command)
    lake = Lake(request.place.images, request.images.column)
    listing = lake.list()
    images = replace(request.images, kind=listing.kind, lake=listing.digest, labels=_labels(found, request.labels))
    check_images(found, request.command, images)
    rows = sum(listing.rows)
    if not rows:
        raise BulkError(f"{lake.url}: there are no rows")
    job = _job(request, found, rows, lake_row_bytes(found.manifest, request.command, images.image), images=images)
    return job, listing.pieces(job.ranges)


def _job(
    request: Request,
    found: FoundVersion,
    rows: int,
    row_bytes: int,
    sample: SampleOptions | None = None,
    images: ImageOptions | None = None,
) -> Job:
    return Job(
        command=request.command,
        model=found.name,
        version=found.version,
        digest=found.digest,
        rows=rows,
        range_rows=request.range_rows or range_rows_of(rows, row_bytes),
        batch_rows=request.batch_rows,
        device=request.device,
        precision=request.precision,
        numerics=request.numerics,
        sample=sample,
        images=images,
    )


def _labels(found: FoundVersion, words: tuple[str, ...]) -> tuple[int, ...]:
    """The labels, each by its number or its name."""
    names = {name: number for number, name in enumerate(found.manifest.labels.names)}
    strange = [word for word in words if not word.isdecimal() and word not in names]
    if strange:
        raise BulkError(f"--labels: {strange[0]!r} is neither a number nor the name of a label of {found.name}")
    return tuple(int(word) if word.isdecimal() else names[word] for word in words)
