"""What a worker answers its supervisor."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from latentserve_server.errors import ShuttingDown
from latentserve_server.supervision.worker import Worker


async def test_a_worker_that_is_stopping_does_not_say_what_it_serves() -> None:
    with ExitStack() as stack:
        worker = Worker(1, stack)
        worker.stopping.set()
        with pytest.raises(ShuttingDown):
            await worker.answers["models"](None)
