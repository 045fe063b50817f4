"""The data settings of a run, and the function that loads the dataset they name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentserve_training.data.dataset import Dataset, cut
from latentserve_training.data.digits import read_digits
from latentserve_training.data.folder import Folder
from latentserve_training.data.mnist import read_mnist
from latentserve_training.data.placement import Placement, machine_memory, on_disk
from latentserve_training.data.remarks import missing_classes
from latentserve_training.errors import ConfigError

DEFAULT_DIGITS_SIZE = 28

PLACES = frozenset({"root", "placement"})
"""Settings that say where the data lies, and do not change what it is."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data that a run trains, validates and is tested on."""

    name: Literal["digits", "mnist", "folder"] = "digits"
    """digits: scikit-learn's, bundled. mnist: four IDX files in `root`. folder: image files under `root`."""

    root: Path | None = None
    """Folder of the files; needed by mnist and folder. MNIST files that are missing there are downloaded into it."""

    size: int | None = None
    """Height and width to resize to, in pixels. Only for digits (28 when absent) and folder (the files' own size)."""

    validation_fraction: float = 0.1
    """Share of the images by which the best checkpoint is chosen; for mnist, of its 60,000 training images."""

    test_fraction: float = 0.1
    """Share of the images that is only reported on. Not for mnist, which has its own 10,000 test images."""

    split_seed: int = 0
    """Seed of the shuffle before the cut."""

    placement: Placement = "auto"
    """Where the images for training steps lie: in the device's memory, in the machine's, or in a temporary file (in
    TMPDIR; only for folder). auto takes the first of these that they fill by half at most."""

    def __post_init__(self) -> None:
        if self.name != "digits" and self.root is None:
            raise ConfigError(f"data.root is not set; {self.name} data needs the folder of its files")
        if self.name == "digits" and self.root is not None:
            raise ConfigError(f"data.root is {self.root}, but digits have no files; set data.name to mnist or folder")
        if self.name == "mnist" and self.size not in (None, 28):
            raise ConfigError(f"data.size is {self.size}; mnist images are 28x28 and are not resized")
        if self.size is not None and not 4 <= self.size <= 1024:
            raise ConfigError(f"data.size is {self.size}; it must be 4 to 1024 pixels")
        for field in ("validation_fraction", "test_fraction"):
            if not 0 < getattr(self, field) < 0.5:
                raise ConfigError(f"data.{field} is {getattr(self, field)}; it must lie between 0 and 0.5")
        if self.placement == "disk" and self.name != "folder":
            raise ConfigError(
                f"data.placement is disk, but {self.name} images are few; allowed are auto, device, memory"
            )
        if self.split_seed < 0:
            raise ConfigError(f"data.split_seed is {self.split_seed}; it must not be negative")


def load(config: DataConfig, processes: int = 1) -> Dataset:
    """The dataset that `config` names, read, checked and split; each of `processes` holds a copy.

    Raises:
        DataError: files are missing, damaged or do not fit together.
    """
    validation_and_test = (config.validation_fraction, config.test_fraction)
    remarks: tuple[str, ...] = ()
    match config.name:
        case "mnist":
            pool, test = read_mnist(_root(config))
            cuts = cut(len(pool), (config.validation_fraction,), config.split_seed)
            validation, train = map(pool.take, cuts)
        case "digits":
            pool = read_digits(config.size or DEFAULT_DIGITS_SIZE)
            validation, test, train = map(pool.take, cut(len(pool), validation_and_test, config.split_seed))
        case "folder":
            folder = Folder.under(_root(config), config.size)
            remarks = folder.remarks
            cuts = cut(len(folder), validation_and_test, config.split_seed)
            size = len(folder) * math.prod(folder.image_shape)
            in_file = on_disk(config.placement, size, machine_memory() // processes)
            validation, test, train = (folder.read(rows, in_file=in_file) for rows in cuts)
    if train.labels is not None:
        remarks += tuple(missing_classes(train.label_names, train.labels))
    return Dataset(config.name, train, validation, test, remarks)


def _root(config: DataConfig) -> Path:
    assert config.root is not None, "DataConfig holds a root for every name that needs one"
    return config.root
