"""`run_and_die.py STEP [train's options]`: train, and be killed by SIGKILL when so many steps have been done."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

from tqdm import tqdm

from latentserve_training.accelerator import make_fabric
from latentserve_training.config import parse_command_line
from latentserve_training.journal import Journal
from latentserve_training.run_folder import RunFolder
from latentserve_training.training import prepare


class FatalBar(tqdm):  # type: ignore[type-arg]  # at run time it takes no parameters
    """A bar on which a count is the last thing this process does."""

    def __init__(self, fatal: int, **options: Any) -> None:
        super().__init__(disable=False, file=io.StringIO(), **options)
        self.fatal = fatal

    def update(self, n: float | None = 1) -> bool | None:
        if self.n + 1 == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(n)


class FatalJournal(Journal):
    """A journal with fatal bars; `fatal` counts all steps of the run."""

    fatal = 0

    def bar(self, epoch: int, epochs: int, batches: int, done: int) -> tqdm[Any]:
        return FatalBar(self.fatal - (epoch - 1) * batches, total=batches, initial=done)


def main(step: int, argv: list[str]) -> None:
    request = parse_command_line(argv, "train", "")
    assert request.output is not None
    folder = RunFolder(request.output)
    trainer = prepare(request.config, folder, make_fabric("cpu", "float32", 1))
    with FatalJournal(folder, trainer.progress.step) as journal:
        journal.fatal = step
        trainer.fit(journal, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
