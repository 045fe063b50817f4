"""A training run that is interrupted at a given step."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from latentserve_training.run.accelerator import make_accelerator
from latentserve_training.run.config import parse_command_line
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.journal import Journal
from latentserve_training.run.train import prepare

Interrupt = Callable[[], None]


class CountingBar(tqdm):  # type: ignore[type-arg]  # at run time it takes no parameters
    """A bar that interrupts when it is about to count so far."""

    def __init__(self, count: int, interrupt: Interrupt, **options: Any) -> None:
        super().__init__(disable=False, file=io.StringIO(), **options)
        self.count = count
        self.interrupt = interrupt

    def update(self, n: float | None = 1) -> bool | None:
        if self.n + 1 == self.count:
            self.interrupt()
        return super().update(n)


class InterruptingJournal(Journal):
    """A journal that interrupts at step `stop`, of all steps of the run."""

    def __init__(self, folder: RunFolder, step: int, stop: int, interrupt: Interrupt) -> None:
        super().__init__(folder, step)
        self.stop = stop
        self.interrupt = interrupt

    def bar(self, epoch: int, epochs: int, batches: int, done: int) -> tqdm[Any]:
        return CountingBar(self.stop - (epoch - 1) * batches, self.interrupt, total=batches, initial=done)


def train_until(argv: Sequence[str], stop: int, interrupt: Interrupt) -> None:
    """Run the command line's training, and interrupt when step `stop` has been done."""
    request = parse_command_line(argv, "train", "")
    assert request.output is not None
    folder = RunFolder(request.output)
    trainer = prepare(request.config, folder, make_accelerator("cpu", request.config.trainer.precision, 1))
    with InterruptingJournal(folder, trainer.progress.step, stop, interrupt) as journal:
        trainer.fit(journal, folder)
