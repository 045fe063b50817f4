"""`overflow_on_one_rank.py PLACE [train's options]`: two processes take two steps; rank 1 overflows.

Each leaves in PLACE its loss scales, what it skipped, and its weights before and after that step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import torch

from latentserve_training.data import load
from latentserve_training.run.accelerator import make_accelerator
from latentserve_training.run.config import parse_command_line
from latentserve_training.run.train import start


def main(place: Path, argv: Sequence[str]) -> None:
    config = parse_command_line(argv, "train", "").config
    trainer = start(config, load(config.data), make_accelerator("cpu", config.trainer.precision, 2))
    batch = trainer.loader.batch(trainer.loader.order(0)[0], number=0, step=0, epoch=0)
    trainer.step(batch)
    before, calm = deepcopy(trainer.model.state_dict()), dict(trainer.progress.skipped)
    # As far outside [0, 1] as no image is, and in this process alone.
    trainer.step(replace(batch, images=-1000 * batch.images) if trainer.processes.rank == 1 else batch)
    left = {
        "calm": calm,
        "skipped": trainer.progress.skipped,
        "scales": {name: asdict(scale) for name, scale in trainer.scales.items()},
        "before": before,
        "after": trainer.model.state_dict(),
    }
    torch.save(left, place / f"{trainer.processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
