"""The report of an evaluation, with its sections and measurements, as JSON and Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from latentserve_training.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number, with its unit, sample size and uncertainty."""

    value: float
    unit: str
    """Such as "nats/image" or "share"; empty for a plain number."""
    count: int
    """How many images it was measured on."""
    seed: int | None = None
    """The seed of its randomness; None if nothing about it is random."""
    standard_error: float | None = None
    """The standard error of a mean over images: their standard deviation by the square root of their number."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Measurements of one kind."""

    title: str
    protocol: str
    """How the numbers came about, and how to read them."""
    measurements: dict[str, Measurement]
    """The results by name; a name appears in one section only."""
    series: dict[str, list[float]] = field(default_factory=dict)
    """Longer results by name, such as one number a latent dimension; units stand in the name."""

    def markdown(self, level: int) -> str:
        """The section under a heading of that level: its protocol, and a table of its measurements if there are any."""
        rows = "\n".join(_row(name, one) for name, one in self.measurements.items())
        table = f"\n\n| metric | value | unit | n | seed |\n| --- | --- | --- | --- | --- |\n{rows}" if rows else ""
        return f"{'#' * level} {self.title}\n\n{self.protocol}{table}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, on what, and how."""

    family: str
    """The model family."""
    dataset: str
    """The name of the data."""
    dataset_sha256: str
    """Digest of the training images, in hexadecimal."""
    epoch: int
    """Epochs that the checkpoint had trained."""
    step: int
    """Training steps that the checkpoint had taken."""
    checkpoint_sha256: str
    """Digest of the checkpoint that was judged, in hexadecimal."""
    extractor_sha256: str | None
    """Digest of the feature extractor's weights, in hexadecimal; None if it does not take images of this shape."""
    sections: list[Section]
    """The results."""
    files: dict[str, str]
    """The other files that the evaluation wrote, by name, with their digests in hexadecimal."""
    collapse: str = ""
    """How the samples have collapsed; empty if they have not."""
    remarks: list[str] = field(default_factory=list)
    """What was left out, and why, in sentences."""

    @property
    def metrics(self) -> dict[str, float]:
        """Every measurement's value by name."""
        return {name: one.value for section in self.sections for name, one in section.measurements.items()}

    @property
    def pictures(self) -> dict[str, str]:
        """The pictures among the files, with their digests."""
        return {name: digest for name, digest in self.files.items() if name.endswith(".png")}

    def save(self, json_path: Path) -> None:
        """Write report.json and report.md; "metrics" repeats the values for programs that need only those."""
        content = asdict(self) | {"metrics": self.metrics}
        json_path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        json_path.with_suffix(".md").write_text(self.markdown(), encoding="utf-8")

    @classmethod
    def load(cls, json_path: Path) -> Self:
        """The report in `json_path`.

        Raises:
            RunError: the file is not a report.
        """
        try:
            content = json.loads(json_path.read_text(encoding="utf-8"))
            sections = [_section(one) for one in content.pop("sections")]
            del content["metrics"]
            return cls(sections=sections, **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(f"{json_path}: not a report; run latentserve-evaluate again") from error

    def markdown(self) -> str:
        """The report as a page."""
        pictures = "\n".join(f"![{Path(name).stem}]({name})" for name in self.pictures)
        extractor = f"`{self.extractor_sha256}`" if self.extractor_sha256 else "none fits these images"
        sections = "\n\n".join(section.markdown(level=2) for section in self.sections)
        collapse = f"**Collapsed:** {self.collapse}.\n\n" if self.collapse else ""
        remarks = "".join(f"\n{remark}" for remark in self.remarks)
        return f"""# {self.family} on {self.dataset}, epoch {self.epoch}

{collapse}{sections}

## Pictures

{pictures}

## What was judged

Checkpoint: step {self.step}, SHA-256 `{self.checkpoint_sha256}`.
Training images: SHA-256 `{self.dataset_sha256}`.
Feature extractor: {extractor}.{remarks}
"""


def _section(content: dict[str, Any]) -> Section:
    measurements = {name: Measurement(**one) for name, one in content.pop("measurements").items()}
    return Section(measurements=measurements, **content)


def _row(name: str, one: Measurement) -> str:
    value = f"{one.value:.4g}" if one.standard_error is None else f"{one.value:.4g} ± {one.standard_error:.2g}"
    seed = "" if one.seed is None else one.seed
    return f"| {name} | {value} | {one.unit} | {one.count:,} | {seed} |"
