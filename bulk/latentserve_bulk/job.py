"""A job: what decides its rows, and the fixed ranges that it is cut into."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from latentserve_bulk.errors import BulkError

Command = Literal["sample", "encode", "score", "reconstruct"]
Numerics = Literal["fast", "portable"]
ImageForm = Literal["png", "uint8", "float32"]
IMAGE_FORMS: tuple[ImageForm, ...] = get_args(ImageForm)

FORMAT = 1
"""Version of the layout of an output folder."""

_RANGE_BYTES = 64 << 20
_MOST_RANGE_ROWS = 1 << 16
_LEAST_RANGE_ROWS = 1 << 10
_RANGES_OF_SMALL_JOBS = 64


@dataclass(frozen=True, order=True, slots=True)
class RowRange:
    """Rows `start` to `stop - 1` of a job, which are made together and lie in one file."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def name(self) -> str:
        """What its files are called, without an ending."""
        return f"rows-{self.start:015d}-{self.stop:015d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleOptions:
    """What is drawn; None: as the model has it."""

    seed: int
    first_index: int = 0
    """The index of the job's row 0."""
    prior: str | None = None
    temperature: float | None = None
    truncation: float | None = None
    psi: float | None = None
    labels: tuple[int, ...] = ()
    image: ImageForm = "png"
    latents: bool = False
    """Whether the latents are written beside the images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """Which images are encoded, scored or reconstructed, and how they are read."""

    kind: Literal["pictures", "parquet"]
    lake: str
    """SHA-256 of the names and sizes of the files, in hexadecimal."""
    column: str
    """That of the images, in Parquet."""
    resize: bool
    """Whether pictures of other sizes than the model's are brought to it."""
    labels: tuple[int, ...]
    """The one label of all, of a conditional model."""
    image: ImageForm
    """Of reconstructions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """All that decides what is written. Two jobs that are equal write the same rows into the same files."""

    command: Command
    model: str
    version: int
    digest: str
    """SHA-256 of the bundle's manifest, in hexadecimal."""
    rows: int
    range_rows: int
    """Rows of every range but the last."""
    batch_rows: int
    """Rows in one run of a graph, at most."""
    device: str
    precision: str
    numerics: Numerics
    sample: SampleOptions | None = None
    images: ImageOptions | None = None
    format: int = FORMAT

    @property
    def ranges(self) -> Sequence[RowRange]:
        """All ranges, in their order."""
        starts = range(0, self.rows, self.range_rows)
        return [RowRange(start, min(start + self.range_rows, self.rows)) for start in starts]

    def to_json(self) -> str:
        """The job as a JSON object."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def differences(self, written: str) -> list[str]:
        """How this job differs from the one whose `to_json` is `written`, a line each; none where they are equal.

        Raises:
            BulkError: it is no job.
        """
        try:
            theirs, mine = _flat(json.loads(written)), _flat(json.loads(self.to_json()))
        except (ValueError, AttributeError) as error:
            raise BulkError(f"is no job: {error}") from error
        keys = dict.fromkeys([*theirs, *mine])
        return [f"{key} was {_text(theirs, key)}, is {_text(mine, key)}" for key in keys if _differ(theirs, mine, key)]


def range_rows_of(rows: int, row_bytes: int) -> int:
    """How many rows a range has of a job of so many, which take so many bytes each.

    About 64 MiB, and at most 65536 rows; fewer of a small job, so that several processors have work.
    """
    fitting = max(1, min(_MOST_RANGE_ROWS, _RANGE_BYTES // row_bytes))
    return min(fitting, max(_LEAST_RANGE_ROWS, -(-rows // _RANGES_OF_SMALL_JOBS)))


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """The options, those of inner objects among them."""
    inner = {key: value for key, value in options.items() if isinstance(value, dict)}
    flat = {key: value for key, value in options.items() if key not in inner}
    for value in inner.values():
        flat |= value
    return flat


def _differ(theirs: dict[str, Any], mine: dict[str, Any], key: str) -> bool:
    return key not in theirs or key not in mine or theirs[key] != mine[key]


def _text(options: dict[str, Any], key: str) -> str:
    return json.dumps(options[key]) if key in options else "absent"
