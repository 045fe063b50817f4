"""The base class of graphs' plans: a graph's role, its tensors, and the model that it must reproduce."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]

BATCH = "batch"
"""The symbol of axis 0 of every tensor."""


@dataclass(frozen=True, kw_only=True)
class GraphPlan(ABC):
    """A graph's role, its tensors by name, and the model that it must reproduce."""

    role: str
    """ "encoder" or "decoder"."""
    example: Arrays
    """Rows of every input, in the graph's order, to trace and to check with; at least 64 of each."""
    outputs: tuple[str, ...]
    """The outputs' names, in the graph's order."""

    @abstractmethod
    def compute(self, inputs: Arrays) -> Arrays:
        """The outputs, by name, of the model that the graph comes from."""

    def rows(self, start: int, stop: int) -> Arrays:
        """The example's rows from `start` to before `stop`."""
        return {name: array[start:stop] for name, array in self.example.items()}
