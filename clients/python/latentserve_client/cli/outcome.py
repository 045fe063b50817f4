"""How a command ends, and the one line that it then prints."""

from __future__ import annotations

import time
from dataclasses import dataclass

from latentserve_client.cli.output import Output
from latentserve_client.models import ModelInfo


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is printed, and the exit code; `aside` where standard output is taken by what the command has made."""

    text: str
    code: int = 0
    aside: bool = False


def written(output: Output, what: str, how: str, info: ModelInfo, started: float) -> Outcome:
    """The line for an output: what is in it, how it was made, by which model and in what time since `started`."""
    seconds = time.perf_counter() - started
    line = f"{output}: {what}, {how}, model {info.name}:{info.version}, {seconds:.2f} s"
    return Outcome(line, aside=output.path is None)


def quantity(number: int, noun: str) -> str:
    """Such as "1 image" and "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
