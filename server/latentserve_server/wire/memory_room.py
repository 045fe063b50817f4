"""The memory that is left for requests: calls are refused while there is too little, before theirs are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from latentserve.control_group import memory_limit
from latentserve_server.errors import Overloaded
from latentserve_server.wire.admission import come_back_seconds

_LOOK_NS = 5_000_000
"""How old a look at the memory in use may be. A look takes microseconds, and a call not many more."""
_LIMIT_NS = 1_000_000_000
"""The same of the limit, which changes where a pod is resized, and takes longer to read."""
_SHORT = 1 << 16
"""A request of fewer bytes is not held against the memory once it is here."""
_LATELY = 1 / 16
"""The weight of the last request in what requests take on average."""
_COPIES = 2
"""A request is in memory as gRPC received it, and as it is read."""


class MemoryRoom:
    """Tells whether there is room for one more request, by what this process holds and what is on its way to it.

    How long a request is, gRPC tells when it has received all of it. Until then it counts as long as those before it
    were on average, so that many long ones that come at once are not all let in because none of them is there yet.
    Where they were taken for short ones, some are given up on their way.
    """

    def __init__(
        self, share: float, used: Callable[[], int], limit: Callable[[], int], give_back: Callable[[], object]
    ) -> None:
        """Calls may take `share` of what an idle process leaves of the limit; with a share of 0, all there is.

        `used` and `limit` give bytes. `give_back` is called, at most once a second, where too much is held: what is
        free, and held none the less, may go.
        """
        self._share = share
        self._used, self._limit, self._give_back = used, limit, give_back
        self._looked_ns = self._limit_ns = -_LIMIT_NS
        self._allowed = self._bytes_used = self._bytes_idle = 0
        self._coming = 0
        self._length = 0.0

    def refusal(self, now_ns: int, calls: int) -> Overloaded | None:
        """Why a call that comes beside so many others is not taken; None where it is. `now_ns` is monotonic.

        A call that is alone is taken: what the process holds then would not become less by waiting.
        """
        if not self._share:
            return None
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._look(now_ns, is_idle=not calls)
        return self._refuse_beyond(_COPIES * self._length * (self._coming + 1)) if calls else None

    def refusal_of(self, size: int, now_ns: int, calls: int) -> Overloaded | None:
        """The same of a request of so many bytes, which is here: why it is not read; None where it is."""
        if not self._share or size < _SHORT:
            return None
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._look(now_ns, is_idle=False)
        refusal = self._refuse_beyond(_COPIES * size) if calls > 1 else None
        if refusal is None:
            self._bytes_used += _COPIES * size
        return refusal

    def is_exceeded(self, now_ns: int) -> Overloaded | None:
        """Why requests that are on their way are given up: more is held than may be; None where it is not."""
        if not self._share:
            return None
        self._look(now_ns, is_idle=False)
        return self._refuse_beyond(0)

    def expect(self) -> None:
        """Count a request that is on its way."""
        self._coming += 1

    def came(self, size: int | None) -> None:
        """Count it no longer: it is here, with so many bytes, or None will come."""
        self._coming -= 1
        if size is not None:
            self._length += _LATELY * (size - self._length)

    def _refuse_beyond(self, wanted: float) -> Overloaded | None:
        most = self._bytes_idle + int(self._share * max(0, self._allowed - self._bytes_idle))
        if self._bytes_used + wanted <= most:
            return None
        used = f"{self._bytes_used} of at most {most} bytes are in use"
        text = f"memory: {used}, and {self._coming} requests are on their way"
        return Overloaded(text, retry_after=come_back_seconds())

    def _look(self, now_ns: int, *, is_idle: bool) -> None:
        self._looked_ns = now_ns
        self._bytes_used = self._used()
        if is_idle:
            self._bytes_idle = self._bytes_used
        if now_ns - self._limit_ns >= _LIMIT_NS:
            self._limit_ns = now_ns
            self._allowed = self._limit()
            if self._bytes_used > self._share * self._allowed:
                self._give_back()


def resident_memory() -> int:
    """Bytes that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def available_memory(processes: int) -> Callable[[], int]:
    """What tells how many bytes each of so many processes may hold: of the control group, or of the machine."""
    of_machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def each() -> int:
        allowed = memory_limit()
        return (of_machine if allowed is None else min(allowed, of_machine)) // processes

    return each
