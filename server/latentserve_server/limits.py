"""What a model lets one call ask, and how much may wait."""

from __future__ import annotations

from dataclasses import dataclass

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
