"""The base class of graphs' plans: a graph's role, its tensors, and the model that it must reproduce."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]

BATCH = "batch"
"""The symbol of axis 0 of every tensor."""

WEIGHTS_SUFFIX = ".weights"
"""The end of the name of a file of weights, which is that of its graph's but for this."""


@dataclass(frozen=True, kw_only=True)
class GraphPlan(ABC):
    """A graph's role, its tensors by name, and the model that it must reproduce."""

    role: str
    """ "encoder", "decoder" or "prior"."""
    example: Arrays
    """Rows of every input, in the graph's order, to trace and to check with: 64, or fewer where one takes long."""
    outputs: tuple[str, ...]
    """The outputs' names, in the graph's order."""

    @abstractmethod
    def compute(self, inputs: Arrays) -> Arrays:
        """The outputs, by name, of the model that the graph comes from."""

    @cached_property
    def expected(self) -> Arrays:
        """What the model makes of the example."""
        return self.compute(self.example)

    def expected_of(self, rows: int) -> Arrays:
        """What the model makes of the first rows alone: anew, since its code may do something else every time."""
        return self.compute(self.rows(0, rows))

    def golden(self, rows: int, path: Path) -> Arrays:
        """The outputs that a server must find for the first rows; `path` is the graph, which has passed its checks."""
        return {name: array[:rows] for name, array in self.expected.items()}

    @property
    def limits(self) -> Mapping[str, float]:
        """How far outputs may be from the model's, by name, where that is more than sums in another order explain.

        In fractions of the output's largest value, or of 1 where that is less.
        """
        return {}

    def sizes(self, batches: Iterable[int]) -> list[int]:
        """Of some numbers of rows those for which the example is large enough, and all of its rows."""
        return sorted({min(size, self.row_count) for size in batches})

    @property
    def row_count(self) -> int:
        """How many rows the example has."""
        return len(next(iter(self.example.values())))

    @property
    def batch_rows(self) -> int:
        """How many rows every run of the graph has; 0 where it may be any number."""
        return 0

    def rows(self, start: int, stop: int) -> Arrays:
        """The example's rows from `start` to before `stop`."""
        return {name: array[start:stop] for name, array in self.example.items()}
