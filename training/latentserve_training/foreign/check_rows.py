"""How many rows a foreign graph is checked with: fewer, where one takes long. Knows no graph, only seconds."""

from __future__ import annotations

import math
from collections.abc import Callable

_MOST_SECONDS = 30.0
"""What the checks of one graph may take, about."""

_FEWEST_ROWS = 2
"""Whether rows depend on each other can be seen with no fewer."""

_RUNS_A_ROW = 4
"""How often the checks run each of their rows: as the file has it and as the bundle does, alone and with others."""


def rows_to_check(run: Callable[[int], float], most: int) -> int:
    """How many rows, `most` at most, can be checked in about half a minute.

    `run` runs so many and returns the seconds that it took.
    """
    rows, seconds = _FEWEST_ROWS, math.inf
    while rows < most:
        seconds = min(seconds, run(rows) / rows)
        affordable = int(_MOST_SECONDS / (seconds * _RUNS_A_ROW))
        if affordable >= most or affordable < 4 * rows:
            return max(_FEWEST_ROWS, min(affordable, most))
        rows *= 4
    return most
