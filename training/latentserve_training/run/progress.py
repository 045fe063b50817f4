"""The progress of a run: counters, loss sums and the best result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from latentserve_training.errors import DivergedError


@dataclass
class Progress:
    """The progress of a run; a checkpoint holds it."""

    epoch: int = 0
    """Epochs completed."""
    batch: int = 0
    """Batches done of the epoch under way."""
    step: int = 0
    """Training steps done."""
    seconds: float = 0.0
    """Time spent on training steps, in seconds."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums of the losses over the batches done of the epoch under way."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many batches each of these sums covers: not every loss is part of every step."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Steps of the epoch under way whose gradient overflowed, by phase; only float16 skips any."""
    results: dict[str, float] = field(default_factory=dict)
    """Validation results of the last epoch completed."""
    best: float | None = None
    """The lowest value so far of the result that marks the best checkpoint."""

    def count(self, losses: Mapping[str, float], seconds: float) -> None:
        """Record one more step of the current epoch."""
        self.batch += 1
        self.step += 1
        self.seconds += seconds
        for name, value in losses.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean losses of the current epoch so far, and its skipped steps."""
        means = {name: total / self.counts[name] for name, total in self.totals.items()}
        means.update((f"{phase}_skipped_steps", count) for phase, count in self.skipped.items())
        return means

    def close_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.batch, self.totals, self.counts = self.epoch + 1, 0, {}, {}
        self.skipped = dict.fromkeys(self.skipped, 0)

    def require_finite(self, whose: str, values: Mapping[str, float]) -> None:
        """Raise DivergedError, with epoch, step and name, for the first value that is not finite."""
        for what, value in values.items():
            if not math.isfinite(value):
                precision = " or another trainer.precision" if self.skipped else ""
                raise DivergedError(
                    f"diverged in epoch {self.epoch + 1}, after step {self.step}: the {whose}'s {what} is {value}; "
                    f"the last checkpoint is from before; try a smaller model.learning_rate{precision}"
                )

    def improve(self, result: float) -> bool:
        """Record the result that selects the best checkpoint; returns whether it is the best so far."""
        if self.best is not None and result >= self.best:
            return False
        self.best = result
        return True
