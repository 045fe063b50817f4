"""The table of docs/zoo.md, and the results that it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.models import MODELS, Model

_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "benchmarks" / "results" / "zoo.json"
_PAGE = _ROOT / "docs" / "zoo.md"
_HEAD = "| Model | Library | Exported by | Adapted | Largest difference |"

Row = Mapping[str, Any]


def keep(rows: Iterable[Row]) -> None:
    """Write rows in the place of the same models' older ones, and the table of all."""
    kept = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else []
    by_name = {row["model"]: row for row in (*kept, *rows)}
    found = [by_name[model.name] for model in MODELS if model.name in by_name]
    _RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    before, _, after = _PAGE.read_text().partition(_HEAD)
    behind = after.partition("\n\n")[2]
    _PAGE.write_text("\n\n".join([before + table(found), *([behind] if behind else [])]) + "\n" * (not behind))


def table(rows: Iterable[Row]) -> str:
    """The table in Markdown, without a newline at its end."""
    models = {model.name: model for model in MODELS}
    lines = [_line(models[row["model"]], row) for row in rows]
    return "\n".join([_HEAD, "|---|---|---|---|---|", *lines])


def _line(model: Model, row: Row) -> str:
    version = row.get("versions", {}).get(model.library.lower().split()[0], "")
    outcome = f"{max(row['differences'].values()):.1e}" if row["outcome"] == "served" else row["outcome"]
    adapted = f"`{model.adapted}`" if any(sign in model.adapted for sign in ".=") else model.adapted
    return f"| {model.name} | {model.library} {version} | `{model.export}` | {adapted} | {outcome} |"
