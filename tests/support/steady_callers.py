"""Callers that make one call after another, and keep what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from latentserve_client import AsyncClient, CallError


@dataclass(frozen=True)
class Attempt:
    """A call that has ended; times in seconds of the monotonic clock."""

    caller: int
    began: float
    ended: float
    error: CallError | None


@dataclass
class Callers:
    """What was called so far."""

    attempts: list[Attempt] = field(default_factory=list)
    under_way: int = 0
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def failed(self) -> list[Attempt]:
        """Those that ended with an error."""
        return [attempt for attempt in self.attempts if attempt.error is not None]

    @property
    def longest(self) -> float:
        """Seconds of the longest call."""
        return max(attempt.ended - attempt.began for attempt in self.attempts)

    async def answered(self, more: int) -> None:
        """Wait until so many more calls have ended."""
        goal = len(self.attempts) + more
        async with self._more:
            await self._more.wait_for(lambda: len(self.attempts) >= goal)

    async def call(self, caller: int, client: AsyncClient, work: float) -> None:
        """Call on and on, with latents over which the model "slow" works for some time."""
        latents = np.array([[work, 0, 0]], np.float32)
        while True:
            began, error = time.monotonic(), None
            self.under_way += 1
            try:
                await client.decode("slow", latents)
            except CallError as failure:
                error = failure
            finally:
                self.under_way -= 1
            self.attempts.append(Attempt(caller, began, time.monotonic(), error))
            async with self._more:
                self._more.notify_all()


@asynccontextmanager
async def steady_callers(*clients: AsyncClient, work: float = 3000.0) -> AsyncIterator[Callers]:
    """One caller of each client, which may be the same for several, until the end of the block."""
    callers = Callers()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(callers.call(*one, work)) for one in enumerate(clients)]
        yield callers
        for task in tasks:
            task.cancel()
