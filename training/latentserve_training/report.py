"""The results of an evaluation: report.json for programs, report.md for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from latentserve_training.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, on what, and how."""

    family: str
    """The model family."""
    dataset: str
    """The name of the data."""
    epoch: int
    """Epochs that the checkpoint had trained."""
    step: int
    """Training steps that the checkpoint had taken."""
    checkpoint_sha256: str
    """Digest of the checkpoint that was judged, in hexadecimal."""
    protocol: str
    """How the numbers came about: on how many images, with which seeds."""
    metrics: dict[str, float]
    """The results by name; units stand in the name."""

    def save(self, json_path: Path) -> None:
        """Write report.json, and report.md beside it."""
        json_path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        json_path.with_suffix(".md").write_text(self.markdown(), encoding="utf-8")

    @classmethod
    def load(cls, json_path: Path) -> Self:
        """The report in `json_path`.

        Raises:
            RunError: the file is not a report.
        """
        try:
            return cls(**json.loads(json_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{json_path}: not a report; run latentserve-evaluate again") from error

    def markdown(self) -> str:
        """The report as a page."""
        rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in self.metrics.items())
        return f"""# {self.family} on {self.dataset}, epoch {self.epoch}

| metric | value |
| --- | --- |
{rows}

{self.protocol}

Checkpoint: step {self.step}, SHA-256 `{self.checkpoint_sha256}`.
"""
