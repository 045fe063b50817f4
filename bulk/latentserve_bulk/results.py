"""The output folder of a job: its files, a record of every finished range, and the manifest of all.

_inputs/<range>.parquet      where the images of a range are, of a job over a lake
_job.json                    the job, written before all that follows
rows-<start>-<stop>.parquet  the rows of a range
_rejected/<range>.parquet    the rows that could not be made, with why; only where there are any
_ranges/<range>.json         the record of a range, written last: a range with a record is finished
_manifest.json               job and records, once all ranges are finished
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from latentserve_bulk.errors import BulkError, JobDiffers
from latentserve_bulk.folder import Folder, Sink
from latentserve_bulk.job import Job, RowRange

JOB, MANIFEST = "_job.json", "_manifest.json"
_INPUTS, _RANGES, _REJECTED = "_inputs", "_ranges", "_rejected"


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file, by its path below the output folder."""

    path: str
    size_bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Record:
    """A finished range."""

    start: int
    stop: int
    file: WrittenFile
    rejected: WrittenFile | None
    numerics: str
    """The fingerprint of the bits that its graphs computed; empty where a row's bits depend on its batch."""
    device: str

    @property
    def rejected_rows(self) -> int:
        """Rows that could not be made."""
        return self.rejected.rows if self.rejected is not None else 0

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """The record that `to_json` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            found = json.loads(text)
            rejected = found.pop("rejected")
            file = WrittenFile(**found.pop("file"))
            return cls(**found, file=file, rejected=WrittenFile(**rejected) if rejected else None)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no record: {error}") from error

    def to_json(self) -> str:
        """The record as a JSON object."""
        return json.dumps(asdict(self)) + "\n"


class Results:
    """The output folder of one job."""

    def __init__(self, folder: Folder, job: Job) -> None:
        self._folder = folder
        self._job = job

    def begin(self, inputs: Iterable[pa.Table] = ()) -> None:
        """Claim the folder for the job, or go on with it. `inputs` are written for every range, where there are any.

        Raises:
            JobDiffers: the folder has another job, or files of none. OSError: it cannot be written.
        """
        written = self._folder.read(JOB)
        if written is None:
            if self._folder.sizes():
                raise JobDiffers(f"{self._folder.url}: there are files of no job; name an empty folder")
            for part, table in zip(self._job.ranges, inputs, strict=False):
                sink = pa.BufferOutputStream()
                pq.write_table(table, sink)
                self._folder.write(f"{_INPUTS}/{part.name}.parquet", sink.getvalue())
            self._folder.write(JOB, self._job.to_json().encode())
        elif differences := self._job.differences(written.decode()):
            raise JobDiffers(f"{self._folder.url}: is of another job: {'; '.join(differences)}")

    def inputs(self, part: RowRange) -> pa.Table:
        """Where the images of a range are, as they were written.

        Raises:
            BulkError: they are not there. OSError: they cannot be read.
        """
        data = self._folder.read(f"{_INPUTS}/{part.name}.parquet")
        if data is None:
            raise BulkError(f"{self._folder.url}: {_INPUTS}/{part.name}.parquet is missing; begin with an empty folder")
        return pq.read_table(pa.BufferReader(data))

    def finished(self) -> dict[RowRange, Record]:
        """The ranges that have a record and the files that it names.

        Raises:
            BulkError: a record is none. OSError: the folder cannot be read.
        """
        names, records = {part.name: part for part in self._job.ranges}, self._folder.sizes(_RANGES)
        sizes = self._folder.sizes() | {f"{_REJECTED}/{name}": n for name, n in self._folder.sizes(_REJECTED).items()}
        found: dict[RowRange, Record] = {}
        for name in sorted(records):
            part = names.get(name.removesuffix(".json"))
            text = self._folder.read(f"{_RANGES}/{name}")
            if part is None or text is None:
                continue
            try:
                record = Record.from_json(text)
            except ValueError as error:
                raise BulkError(f"{self._folder.url}/{_RANGES}/{name}: {error}; remove it to make it again") from error
            if all(sizes.get(file.path) == file.size_bytes for file in _files(record)):
                found[part] = record
        return found

    def write(self, part: RowRange, make: Callable[[Sink], Made]) -> Record:
        """Write the files of a range, and its record last. `make` writes the rows.

        Raises:
            OSError: one cannot be written. Exception: what `make` raises, of which nothing is left.
        """
        path = f"{part.name}.parquet"
        with self._folder.writing(path) as sink:
            made = make(sink)
        file, rejected = WrittenFile(path, sink.size_bytes, sink.sha256, made.rows), None
        if made.rejected_rows:
            path = f"{_REJECTED}/{path}"
            with self._folder.writing(path) as sink:
                sink.write(made.rejected)
            rejected = WrittenFile(path, sink.size_bytes, sink.sha256, made.rejected_rows)
        record = Record(part.start, part.stop, file, rejected, made.numerics, made.device)
        self._folder.write(f"{_RANGES}/{part.name}.json", record.to_json().encode())
        return record

    def complete(self, about: dict[str, Any]) -> dict[str, Any] | None:
        """Write the manifest, with what else is to be said in it, and return it; None while ranges are missing.

        Raises:
            BulkError, OSError: as `finished`.
        """
        finished = self.finished()
        if len(finished) < len(self._job.ranges):
            return None
        records = [finished[part] for part in self._job.ranges]
        manifest = {
            "job": json.loads(self._job.to_json()),
            **about,
            "numerics": sorted({record.numerics for record in records}),
            "rows": sum(record.file.rows for record in records),
            "rejected_rows": sum(record.rejected_rows for record in records),
            "ranges": [json.loads(record.to_json()) for record in records],
        }
        self._folder.write(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for folder in ("", _INPUTS, _RANGES, _REJECTED):
            self._folder.remove_unfinished(folder)
        return manifest


@dataclass(frozen=True, slots=True)
class Made:
    """What was written of a range, and the rows that could not be made, as a Parquet file in a buffer."""

    rows: int
    rejected: Any
    rejected_rows: int
    numerics: str
    device: str


def damaged_files(folder: Folder) -> tuple[int, list[str]]:
    """How many files the manifest of a folder names, and a line on each that is not what it says.

    Raises:
        BulkError: there is no manifest. OSError: a file cannot be read.
    """
    text = folder.read(MANIFEST)
    if text is None:
        raise BulkError(f"{folder.url}: there is no {MANIFEST}: the job has not ended")
    files = [file for record in _records(text) for file in _files(record)]
    problems = []
    for file in files:
        data = folder.read(file.path)
        if data is None:
            problems.append(f"{file.path}: is missing")
        elif hashlib.sha256(data).hexdigest() != file.sha256:
            problems.append(f"{file.path}: the SHA-256 is not the manifest's")
    return len(files), problems


def _records(manifest: bytes) -> Sequence[Record]:
    try:
        return [Record.from_json(json.dumps(record)) for record in json.loads(manifest)["ranges"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BulkError(f"{MANIFEST}: is none: {error}") from error


def _files(record: Record) -> list[WrittenFile]:
    return [record.file, *([record.rejected] if record.rejected is not None else [])]
