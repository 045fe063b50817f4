"""Random seeds for callers who give none."""

from __future__ import annotations

import secrets

_BITS = 53
"""Below 2^53, so that languages and tables whose numbers are doubles keep a seed to the last digit."""


def draw_seed() -> int:
    """A seed that is unlike any other one, from 0 to 2^53 - 1."""
    return secrets.randbits(_BITS)
