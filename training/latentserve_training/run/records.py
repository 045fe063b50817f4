"""metrics.jsonl: one JSON record per epoch, the last perhaps cut short by a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentserve_training.run.atomic_file import replace_text

_FIELDS = frozenset({"epoch", "step", "train", "validation"})


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete records in `path`, in order; none if there is no such file."""
    if not path.is_file():
        return []
    records = [_parse(line) for line in path.read_bytes().splitlines()]
    return [record for record in records if record is not None]


def keep_records(path: Path, step: int) -> None:
    """Drop records of steps later than `step`, and incomplete ones."""
    if path.is_file():
        replace_text(path, "".join(_line(record) for record in read_records(path) if record["step"] <= step))


def add_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record."""
    with path.open("a") as file:
        file.write(_line(record))


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.keys() >= _FIELDS else None
