"""The log of a run: progress bar, printed lines, metrics.jsonl, TensorBoard and samples."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from latentserve_training.command_line.output import say
from latentserve_training.image_grid import grid, write_png
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.records import add_record, keep_records

_GRID_COLUMNS = 8


class NullJournal:
    """The journal of every process but the first: it records nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def say(self, line: str) -> None:
        """Print nothing."""

    def bar(self, epoch: int, epochs: int, batches: int, done: int) -> tqdm[Any]:
        """A bar that shows nothing."""
        return tqdm(disable=True)

    def epoch(self, record: Mapping[str, Any], samples: NDArray[np.uint8]) -> None:
        """Record nothing."""


class Journal:
    """The journal of one run, continued after `step`; entries of later steps are dropped."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._folder = folder
        keep_records(folder.metrics, step)
        from torch.utils.tensorboard import SummaryWriter  # a while of imports, which only training needs

        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._writer.close()

    def say(self, line: str) -> None:
        """Print one line, above the bar if there is one."""
        with tqdm.external_write_mode():
            say(f"{line}\n")

    def bar(self, epoch: int, epochs: int, batches: int, done: int) -> tqdm[Any]:
        """A bar over the batches of an epoch; silent where standard error is not a terminal."""
        return tqdm(
            total=batches, initial=done, desc=f"epoch {epoch}/{epochs}", unit="batch", leave=False, disable=None
        )

    def epoch(self, record: Mapping[str, Any], samples: NDArray[np.uint8]) -> None:
        """Record an epoch: its numbers, nested one level deep, and its samples uint8 [n, channels, height, width]."""
        add_record(self._folder.metrics, record)
        for group in ("train", "validation"):
            for name, value in record[group].items():
                self._writer.add_scalar(f"{group}/{name}", value, record["step"])
        for name, values in record["series"].items():
            self._writer.add_histogram(f"validation/{name}", np.array(values), record["step"])
        self._writer.add_scalar("images_per_second", record["images_per_second"], record["step"])
        picture = grid(samples, _GRID_COLUMNS)
        write_png(picture, self._folder.samples(record["epoch"]))
        self._writer.add_image("samples", np.asarray(picture.convert("RGB")), record["step"], dataformats="HWC")
        self._writer.flush()
        self.say(self._line(record))

    @staticmethod
    def _line(record: Mapping[str, Any]) -> str:
        numbers = [f"{name} {value:.4g}" for name, value in record["train"].items() if "gradient" not in name]
        numbers += [f"val {name} {value:.4g}" for name, value in record["validation"].items()]
        pace = f"{record['images_per_second']:.0f} images/s"
        return f"epoch {record['epoch']}/{record['epochs']} | {' | '.join(numbers)} | {pace}"
