"""Runs of a graph that takes one number of rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def in_runs_of(size: int, run: Callable[[Arrays], Arrays], inputs: Arrays) -> dict[str, NDArray[Any]]:
    """What `run`, which takes `size` rows at a time, makes of all rows of the inputs. Zeros fill the last run.

    Raises:
        Exception: what `run` raises.
    """
    rows = len(next(iter(inputs.values())))
    made = []
    for start in range(0, rows, size):
        part = {name: array[start : start + size] for name, array in inputs.items()}
        missing = size - min(size, rows - start)
        made.append(run({name: _filled(array, missing) for name, array in part.items()} if missing else part))
    return {name: np.concatenate([outputs[name] for outputs in made])[:rows] for name in made[0]}


def _filled(array: NDArray[Any], missing: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
