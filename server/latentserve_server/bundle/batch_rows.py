"""The choice of how many rows a run of a model has, by the seconds that its graphs take. Knows no graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LEAST_SHARE = 0.95
"""Of the most rows a second that were measured: what a batch must reach, and the smallest that does is taken."""

LONGEST_RUN_SECONDS = 0.05
"""What a run through all graphs may take, so that a single row never waits long behind a batch."""

FEW_ROWS, SHORT_RUN_SECONDS = 16, 0.01
"""No fewer rows are chosen than so many, where a run of them is short: the shorter a run, the less is sure of it."""

MEASURING_SECONDS = 0.3
"""What measuring one graph may take, and the run in which that time ends."""

BATCH_SECONDS = 2e-4
"""What the server takes for a batch beside its run, about: to gather it and to wake up for it."""

BUFFER_BYTES = 64 << 20
"""What the inputs and outputs of a batch may take, of all graphs of a model. What lies between comes on top."""

MOST_ROWS = 4096

_PATIENCE = 2
"""Sizes in a row that must bring next to nothing, until larger ones are not tried."""

RunSeconds = Mapping[int, Sequence[float]]
"""Seconds of a run of each graph, by its rows."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The rows of a batch, with what speaks for them."""

    rows: int
    share: float
    """Rows a second over the most that were measured, of the graph that has least of it."""
    seconds: float
    """What a run of so many rows takes, through all graphs."""

    def __str__(self) -> str:
        return f"{self.rows}, with {self.share:.0%} of the best rows a second in runs of {self.seconds * 1e3:.1f} ms"


def most_rows(row_bytes: int, bound: int) -> int:
    """The largest power of two, at most `bound`, of which rows that take so many bytes have room; at least 1."""
    return 1 << (max(1, min(bound, BUFFER_BYTES // row_bytes)).bit_length() - 1)


def measure(run: Callable[[int], Sequence[float]], graphs: int, most: int) -> RunSeconds:
    """Time runs of 1, 2, 4, ... rows, `most` at most, until more rows bring no more rows a second.

    `run` makes one run of so many rows of each of the graphs and returns what each took, or nothing where there is no
    room for so many; the fastest of three count. Altogether they take at most MEASURING_SECONDS a graph, and what the
    last run goes over it.
    """
    seconds: dict[int, Sequence[float]] = {}
    left = graphs * MEASURING_SECONDS

    def time(rows: int) -> bool:
        nonlocal left
        taken = run(rows) if left > 0 else ()
        if taken:
            left -= sum(taken)
            seconds[rows] = [min(pair) for pair in zip(taken, seconds.get(rows, taken), strict=True)]
        return bool(taken)

    for rows in _doubling(most):
        # Twice, because the first run of a size asks for its memory.
        if not (time(rows) and time(rows)) or sum(seconds[rows]) > LONGEST_RUN_SECONDS or not _grows(seconds):
            break
    for rows in tuple(seconds):  # once more at another time, when other work may have let go of the processors
        time(rows)
    return seconds


def choose(seconds: RunSeconds) -> Choice:
    """The fewest rows with which every graph has LEAST_SHARE of its best rows a second.

    Where the graphs agree on none, those that lose least. FEW_ROWS are never too many, where their run is short. Runs
    longer than LONGEST_RUN_SECONDS do not count, but for that of a single row.
    """
    seconds = _never_falling(seconds)
    short = {rows: runs for rows, runs in seconds.items() if sum(runs) <= LONGEST_RUN_SECONDS}
    counted = short or {min(seconds): seconds[min(seconds)]}
    shares = _shares(counted)
    enough = [rows for rows, share in shares.items() if share >= LEAST_SHARE]
    rows = min(enough) if enough else max(shares, key=lambda size: (shares[size], -size))
    few = [size for size, runs in counted.items() if size <= FEW_ROWS and sum(runs) <= SHORT_RUN_SECONDS]
    rows = max([rows, *few])
    return Choice(rows, shares[rows], sum(counted[rows]))


def _shares(seconds: RunSeconds) -> dict[int, float]:
    """Of each size, its rows a second over the best, of the graph that has least of it."""
    rates = {rows: [rows / (BATCH_SECONDS + taken) for taken in runs] for rows, runs in seconds.items()}
    best = [max(graph) for graph in zip(*rates.values(), strict=True)]
    return {rows: min(rate / top for rate, top in zip(graphs, best, strict=True)) for rows, graphs in rates.items()}


def _grows(seconds: RunSeconds) -> bool:
    """Whether one of the last sizes brought any graph more rows a second than LEAST_SHARE lets go."""
    if len(seconds) <= _PATIENCE:
        return True
    before = sorted(seconds)[:-_PATIENCE]
    shares = _shares(seconds)
    return max(shares[rows] for rows in before) < LEAST_SHARE


def _never_falling(seconds: RunSeconds) -> RunSeconds:
    """The same, where more rows took less: what a run takes beyond one of more rows was other work's."""
    least: dict[int, Sequence[float]] = {}
    fastest: Sequence[float] | None = None
    for rows in sorted(seconds, reverse=True):
        taken = seconds[rows]
        fastest = taken if fastest is None else [min(pair) for pair in zip(taken, fastest, strict=True)]
        least[rows] = fastest
    return least


def _doubling(most: int) -> Iterator[int]:
    rows = 1
    while rows <= most:
        yield rows
        rows *= 2
