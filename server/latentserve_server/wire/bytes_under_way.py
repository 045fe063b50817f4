"""A bound on the bytes of all requests under way."""

from __future__ import annotations

from collections.abc import Callable

from latentserve_server.errors import Overloaded


class BytesUnderWay:
    """Counts them up to a limit. What a request takes while it is answered is a few times its bytes."""

    def __init__(self, limit: int, observe: Callable[[int], None]) -> None:
        """`observe` is told of every change."""
        self._limit = limit
        self._observe = observe
        self._total = 0

    def enter(self, size: int) -> None:
        """Count a request that has arrived.

        Raises:
            Overloaded: it goes beyond the limit.
        """
        if self._total + size > self._limit:
            raise Overloaded(f"{self._total} of at most {self._limit} bytes are under way; {size} more do not fit")
        self._total += size
        self._observe(self._total)

    def leave(self, size: int) -> None:
        """Count a request no longer: it was answered."""
        self._total -= size
        self._observe(self._total)
