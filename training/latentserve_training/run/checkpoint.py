"""A checkpoint: all that a run needs to continue bit for bit, in one atomic file."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from latentserve_training.data import Dataset
from latentserve_training.errors import DivergedError, RunError
from latentserve_training.models import ImageShape
from latentserve_training.run.atomic_file import replacing, write_durably

FORMAT = 4
"""Changes with what a checkpoint holds or means; a version reads its own format alone."""

_REMEDY = "train again, or use the version that wrote it"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of a run: its configuration, of which only the epochs may change, its data and its code."""

    config: dict[str, Any]
    """The resolved configuration, plain values."""
    image_shape: ImageShape
    """Channels, height and width."""
    dataset_sha256: str
    """Digest of the training images, in hexadecimal."""
    held_out_sha256: str
    """Digest of the validation and test images, likewise."""
    labels_sha256: str
    """Digest of the labels of all images; empty where the data has no classes."""
    git_commit: str
    """Commit of the training code that went on with the run last; empty when unknown."""
    label_names: tuple[str, ...]
    """What the data's labels are called; empty where it has no classes."""

    def require(self, dataset: Dataset, remedy: str) -> None:
        """Refuse data other than the run's; `remedy` says what the user can do then.

        Raises:
            RunError: saying in what it differs.
        """
        kept, found = (", ".join(names) or "none" for names in (self.label_names, dataset.label_names))
        changes = {
            "labels": (kept, found),
            "training images with digest": (self.dataset_sha256[:12], dataset.sha256[:12]),
            "labels with digest": (self.labels_sha256[:12], dataset.labels_sha256[:12]),
            "validation and test images with digest": (self.held_out_sha256[:12], dataset.held_out_sha256[:12]),
        }
        for what, (before, now) in changes.items():
            if before != now:
                raise RunError(f"the run is of {what} {before}, but the data has {now}; {remedy}")


@dataclass
class Progress:
    """How far a run has come."""

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
    """How many batches each of these sums is of: not every loss is part of every step."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Steps of the epoch under way whose gradient overflowed, by phase; empty but in float16, which alone skips any."""
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


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run between two training steps. Only tensors and plain values, so that loading runs no code."""

    origin: Origin
    progress: Progress
    model: dict[str, Any]
    average: dict[str, Any]
    optimizers: list[dict[str, Any]]
    scales: dict[str, dict[str, Any]]
    rng: dict[str, Tensor]

    def save(self, path: Path, *also: Path) -> None:
        """Write to `path`, and hard-link the paths `also`, in the same folder, to the same file.

        Each appears atomically, `path` last: a reader, or a run after a crash, finds the old file or the new one.

        Raises:
            RunError: the file cannot be written, as on a full disk; what `path` held before is still there.
        """
        try:
            with replacing(path) as temporary:
                write_durably(temporary, self._content())
                for other in also:
                    with replacing(other) as twin:
                        # Checkpoints are replaced and never changed, so two names can share one file's megabytes.
                        twin.hardlink_to(temporary)
        except OSError as error:
            stays = "; the checkpoint of before stays" if path.is_file() else ""
            raise RunError(f"{path}: cannot be saved: {error.strerror}{stays}") from error

    def _content(self) -> memoryview:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"origin": asdict(self.origin), "progress": asdict(self.progress)}
        # Not straight into a file: where its end does not fit on the disk, torch raises an error of its own.
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **values}, buffer)
        return buffer.getbuffer()

    @contextmanager
    def refusing_other_networks(self) -> Iterator[None]:
        """Within the block, a state of this checkpoint that does not fit its network raises RunError."""
        try:
            yield
        except (RuntimeError, ValueError, KeyError) as error:
            family = self.origin.config["model"]["family"]
            commit = f" (commit {self.origin.git_commit})" if self.origin.git_commit else ""
            raise RunError(
                f"the checkpoint's weights are of another network than today's {family}; {_REMEDY}{commit}"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """The checkpoint in `path`, on the CPU.

        Raises:
            RunError: the file is missing, damaged, or not a checkpoint of this format.
        """
        checkpoint, _ = cls.load_with_digest(path)
        return checkpoint

    @classmethod
    def load_with_digest(cls, path: Path) -> tuple[Self, str]:
        """The checkpoint in `path` and the SHA-256, in hexadecimal, of the very bytes it was read from."""
        try:
            content = path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                damaged = archive.testzip()  # which torch does not look for
            if damaged is not None:
                raise RunError(f"{path}: damaged: {damaged} is not what was saved")
            values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if (written := values.pop("format")) != FORMAT:
                raise RunError(f"{path}: a checkpoint of format {written}, but this version reads {FORMAT}; {_REMEDY}")
            values["origin"] = Origin(**values["origin"])
            values["progress"] = Progress(**values["progress"])
            return cls(**values), hashlib.sha256(content).hexdigest()
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from error
        except (
            RuntimeError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
            EOFError,
            TypeError,
            LookupError,
            AttributeError,
            ValueError,
        ) as error:
            raise RunError(f"{path}: damaged, or not a checkpoint") from error
