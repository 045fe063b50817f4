"""The batches of training images, a function of only seed and epoch.

They are cut from one array, wherever that lies. A loader with worker processes takes longer than the step itself where
images are small, and the files of a folder are decoded before the first step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latentserve_training.data import Dataset, Split
from latentserve_training.data.placement import Placement, takes_images
from latentserve_training.errors import ConfigError
from latentserve_training.models import Batch
from latentserve_training.run.accelerator import Accelerator


class BatchLoader:
    """Cuts every epoch's shuffled training images into batches, and each batch into the processes' shares."""

    def __init__(
        self, dataset: Dataset, *, batch_size: int, labelled: bool, memory_format: torch.memory_format, seed: int,
        accelerator: Accelerator, placement: Placement,
    ) -> None:  # fmt: skip
        """`batch_size` counts the images of all processes together; an incomplete last batch is dropped.

        Raises:
            ConfigError: there are too few images for a batch, a batch does not divide among the processes, or the
                images do not fit on the device.
        """
        count = len(dataset.train)
        self.batches = count // batch_size
        if not self.batches:
            raise ConfigError(f"trainer.batch_size is {batch_size}, but there are {count} training images")
        accelerator.processes.require_shares(batch_size)
        self._batch_size = batch_size
        self._accelerator = accelerator
        splits = (dataset.train, dataset.validation)
        size = sum(split.images.nbytes for split in splits)
        resident = placement == "device" or (placement == "auto" and takes_images(accelerator.device, size))
        place = accelerator.place if resident else _stay
        try:
            self._images, self.validation_images = (place(torch.from_numpy(split.images)) for split in splits)
            self._labels, self.validation_labels = (place(_labels_of(split)) if labelled else None for split in splits)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"data.placement is {placement}, but {accelerator.device} has no room for {size:,} bytes of images; "
                "allowed is memory, and for folder disk"
            ) from error
        self.remarks = dataset.remarks
        self._memory_format = memory_format
        self._seed = seed

    def __len__(self) -> int:
        return len(self._images)

    def order(self, epoch: int) -> Tensor:
        """Indices [batches, batch_size] of the epoch's images, the same in every process."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self))
        whole = order[: self.batches * self._batch_size].reshape(self.batches, -1)
        return torch.from_numpy(whole).to(self._images.device)

    def batch(self, rows: Tensor, *, number: int, step: int, epoch: int) -> Batch:
        """This process's share of the images of `rows`, in [0, 1]: batch `number` of the epoch, after `step` steps."""
        share = self._accelerator.processes.share(rows)
        images = self._accelerator.place(self._images[share]).float() / 255
        return Batch(
            images=images.contiguous(memory_format=self._memory_format),
            labels=None if self._labels is None else self._accelerator.place(self._labels[share]),
            step=step,
            epoch=epoch + number / self.batches,
        )


def _stay(images: Tensor) -> Tensor:
    return images


def _labels_of(split: Split) -> Tensor:
    """The labels int64 [n] of data that has them."""
    assert split.labels is not None, "a model is built conditional only where the data has labels"
    return torch.from_numpy(split.labels)
