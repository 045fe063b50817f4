"""How many rows a foreign graph is checked with: fewer, where one takes long. Knows no graph, only seconds."""

from __future__ import annotations

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
    rows = _FEWEST_ROWS
    taken = run(rows)
    if _affordable(taken / rows) < most and taken < _MOST_SECONDS:
        taken = min(taken, run(rows))  # the first run reads large weights, too
    seconds = taken / rows
    while 4 * rows <= _affordable(seconds) < most:
        rows *= 4
        seconds = min(seconds, run(rows) / rows)
    return min(most, max(_FEWEST_ROWS, _affordable(seconds)))


def _affordable(row_seconds: float) -> int:
    return int(_MOST_SECONDS / (row_seconds * _RUNS_A_ROW))
