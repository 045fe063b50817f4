"""How a command ends, and the one line that it then prints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from latentserve_client.model_info import ModelInfo


@dataclass(frozen=True, slots=True)
class Outcome:
    """What goes to stdout, and the exit code."""

    text: str
    code: int = 0


def written(output: Path, what: str, how: str, info: ModelInfo, started: float) -> Outcome:
    """The line for a file: what is in it, how it was made, by which model and in what time since `started`."""
    seconds = time.perf_counter() - started
    return Outcome(f"{output}: {what}, {how}, model {info.name}:{info.version}, {seconds:.2f} s")


def quantity(number: int, noun: str) -> str:
    """Such as "1 image" and "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
