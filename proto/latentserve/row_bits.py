"""The check that a row's bits do not depend on its batch, for training and server alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Rows of tensors, by the tensors' names."""

TRIAL_ROWS = 64
TRIAL_BATCHES = (1, 2, 3, TRIAL_ROWS)
"""Kernels work in vectors and treat what is left at the end of a tensor otherwise: with one to three rows another part
of a row is left than with many."""


def more_rows(rows: Arrays) -> dict[str, NDArray[Any]]:
    """TRIAL_ROWS rows of inputs, all different, made of a few.

    Floats are those of the few rows, moved along and scaled a little nearer to 0 every time that the few are used up:
    so images stay within 0 to 1, and latents are ordinary ones. Codes are moved along and not scaled. Labels and
    what else is one value a row stay as they are.
    """
    return {name: _more(array) for name, array in rows.items()}


def _more(few: NDArray[Any]) -> NDArray[Any]:
    taken = np.arange(TRIAL_ROWS)
    again = few[taken % len(few)]
    if few.ndim == 1:
        return again
    flat, rounds = again.reshape(TRIAL_ROWS, -1), taken // len(few)
    moved = np.stack([np.roll(row, turn) for row, turn in zip(flat, rounds, strict=True)])
    if few.dtype.kind != "f":
        return moved.reshape(again.shape)
    nearer = 1 - rounds / (2 * TRIAL_ROWS)
    return (moved * nearer[:, np.newaxis]).astype(few.dtype).reshape(again.shape)


def batch_dependence(run: Callable[[Arrays], Arrays], rows: Arrays, batches: Iterable[int] = TRIAL_BATCHES) -> str:
    """Run the rows in batches of each of these sizes; the first output and size with other bits than in the largest.

    Like "'image' in a batch of 2"; empty where there is none. Rows that fill no batch of a size are left out there.
    """
    largest, *smaller = sorted(set(batches), reverse=True)
    together = [outputs for _, outputs in _in_batches(run, rows, largest)]
    expected = {name: np.concatenate([outputs[name] for outputs in together]) for name in together[0]}
    for size in smaller:
        for start, outputs in _in_batches(run, rows, size):
            for name, array in outputs.items():
                same = expected[name][start : start + size]
                if len(same) == size and array.tobytes() != same.tobytes():
                    return f"{name!r} in a batch of {size}"
    return ""


def _in_batches(run: Callable[[Arrays], Arrays], rows: Arrays, size: int) -> Iterator[tuple[int, Arrays]]:
    """The first row and the outputs of every full batch."""
    count = len(next(iter(rows.values())))
    for start in range(0, count - size + 1, size):
        yield start, run({name: array[start : start + size] for name, array in rows.items()})
