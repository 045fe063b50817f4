"""A model with the calls that it answers: it closes once the last of them is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from latentserve_server.served_model import ServedModel


class LeasedModel:
    """Counts the leases of one model, on its event loop."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def lease(self) -> Iterator[ServedModel]:
        """The model, which does not close within the block."""
        self._leases += 1
        self._unused.clear()
        try:
            yield self.model
        finally:
            self._leases -= 1
            if not self._leases:
                self._unused.set()

    async def close(self) -> None:
        """Wait until the last lease has ended, then close the model. No lease may begin any more."""
        await self._unused.wait()
        await self.model.close()

    def revoke(self) -> None:
        """Let `close` wait no longer: the calls that hold leases have been given up."""
        self._unused.set()
