"""What a graph takes of its device, counted and not guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """One open graph.

    onnxruntime says nothing of what its arena holds for the values between the operators, so that is not counted.
    """

    weight_bytes: int
    """Bytes of the graph's file, which are its weights but for a few kilobytes."""
    buffer_bytes: int
    """Bytes of the inputs and outputs of its largest batch; where batches are bound, of all that are."""
    cpu_operators: Mapping[str, int]
    """Operators that the device leaves to the CPU, with the number of their nodes."""

    @property
    def memory_bytes(self) -> int:
        """Weights and buffers."""
        return self.weight_bytes + self.buffer_bytes
