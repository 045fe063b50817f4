"""The origin of a run: its configuration, data and code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from latentserve_training.data import Dataset
from latentserve_training.errors import RunError
from latentserve_training.models import ImageShape


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
    """The names of the data's labels; empty if it has no classes."""

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
