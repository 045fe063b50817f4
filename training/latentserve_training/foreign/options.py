"""Where an import goes, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentserve_training.errors import ConfigError
from latentserve_training.export.destination import PublicationRequest

DEFAULT_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class ImportOptions(PublicationRequest):
    """Where to import to, and what to compare with."""

    name: str
    reference: Path | None = None
    """NumPy archive of what the model's own framework drew, relative to the working directory."""
    reference_tolerance: float = DEFAULT_TOLERANCE
    """The largest difference from it that is allowed, a fraction of a tensor's largest value, or of 1 if less."""

    def __post_init__(self) -> None:
        """Raise ExportError where the name or the version cannot be served, ConfigError for the tolerance."""
        super().__post_init__()
        if not 0 < self.reference_tolerance < 1:
            raise ConfigError(f"--reference-tolerance is {self.reference_tolerance:g}; it must be above 0 and below 1")
