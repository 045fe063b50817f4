"""The training images, in memory on the device: which of them make up a batch is a function of seed and epoch alone.

A loader with worker processes is for images that do not fit in memory; for these it takes longer than the step itself.
"""

from __future__ import annotations

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from latentserve_training.data import Split
from latentserve_training.errors import ConfigError
from latentserve_training.models import Batch
from latentserve_training.processes import Processes


class Feed:
    """Cuts the shuffled images of every epoch into batches, of which each process gets its share."""

    def __init__(
        self, images: Split, *, batch_size: int, labelled: bool, memory_format: torch.memory_format, seed: int,
        fabric: Fabric, processes: Processes,
    ) -> None:  # fmt: skip
        """`batch_size` counts the images of all processes together; what does not fill a batch sits an epoch out.

        Raises:
            ConfigError: there are too few images for a batch, or a batch does not divide among the processes.
        """
        self.batches = len(images) // batch_size
        if not self.batches:
            raise ConfigError(f"trainer.batch_size is {batch_size}, but there are {len(images)} training images")
        processes.require_shares(batch_size)
        self._batch_size = batch_size
        self._images = fabric.to_device(torch.from_numpy(images.images))
        self._labels = on_device(fabric, images.labels) if labelled else None
        self._memory_format = memory_format
        self._seed = seed
        self._processes = processes

    def __len__(self) -> int:
        return len(self._images)

    def order(self, epoch: int) -> Tensor:
        """Indices [batches, batch_size] of the epoch's images, the same in every process."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self))
        whole = order[: self.batches * self._batch_size].reshape(self.batches, -1)
        return torch.from_numpy(whole).to(self._images.device)

    def batch(self, rows: Tensor, *, number: int, step: int, epoch: int) -> Batch:
        """This process's share of the images of `rows`, in [0, 1]: batch `number` of the epoch, after `step` steps."""
        share = self._processes.share(rows)
        return Batch(
            images=(self._images[share].float() / 255).contiguous(memory_format=self._memory_format),
            labels=None if self._labels is None else self._labels[share],
            step=step,
            epoch=epoch + number / self.batches,
        )


def on_device(fabric: Fabric, labels: NDArray[np.int64] | None) -> Tensor:
    """Labels int64 [n] of data that has them."""
    assert labels is not None, "a model is built conditional only where the data has labels"
    return fabric.to_device(torch.from_numpy(labels))
