"""A loaded version's identity, and its limits."""

from __future__ import annotations

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one call may ask and what may wait."""

    max_rows_per_request: int
    max_batch_rows: int
    max_queue_rows: int
    max_queue_bytes: int
    max_message_bytes: int
