"""The folder of a run and the names of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentserve_training.errors import RunError
from latentserve_training.run.atomic_file import temporary_path


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The latest checkpoint, from which the run continues."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation result, for families that have one."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def metrics(self) -> Path:
        """One JSON record an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """The results of the evaluation."""
        return self.path / "report.json"

    @property
    def mixture(self) -> Path:
        """The mixture fitted on the aggregate posterior, for VAEs."""
        return self.path / "mixture.safetensors"

    @property
    def calibration(self) -> Path:
        """The quantiles of the test images' scores, for VAEs."""
        return self.path / "calibration.json"

    def samples(self, epoch: int) -> Path:
        """The sample grid of the epoch."""
        return self.path / "samples" / f"epoch-{epoch:04d}.png"

    def is_fresh(self) -> bool:
        """Whether the folder is absent, empty, or left by a run that ended before its first checkpoint."""
        if not self.path.is_dir():
            return not self.path.exists()
        return set(self.path.rglob("*")) <= {self.last.parent, temporary_path(self.last)}

    def chosen(self) -> Path:
        """The checkpoint to evaluate and export: the best where there is one, else the last.

        Raises:
            RunError: the folder holds no checkpoint.
        """
        for checkpoint in (self.best, self.last):
            if checkpoint.is_file():
                return checkpoint
        raise RunError(f"{self.path} holds no checkpoint; it is not the output of latentserve-train")
