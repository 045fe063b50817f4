"""A model version's identity, limits and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentserve.v1 import bundle_pb2
from latentserve_server.engine import Device


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which version of which model, opened from what, on what device."""

    name: str
    version: int
    digest: str
    device: Device
    precision: bundle_pb2.Precision = bundle_pb2.PRECISION_FLOAT32
    """What the decoder computes in."""
    numerics: str = ""
    """The fingerprint of the bits that its graphs compute; empty where a row's bits depend on its batch."""
    fell_back: frozenset[str] = frozenset()
    """The names of the graphs that compute in float32 because those in lower precision fell short of their manifest."""


REPLY_OVERHEAD_BYTES = 1 << 16
"""What a reply holds besides its rows, generously."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one call may ask and what may wait."""

    max_rows_per_request: int
    max_batch_rows: int
    max_queue_rows: int
    max_queue_bytes: int
    max_message_bytes: int


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
