"""The Python client's calls a second, of one uint8 image: one thread that blocks, and many calls at a time on asyncio.

python -m front.python_client TARGET MODEL SECONDS IN_FLIGHT     prints JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from latentserve_client import AsyncClient, Client

WARM_UP_CALLS = 20


def blocking(target: str, model: str, seconds: float) -> float:
    """Calls a second of one thread. A call that fails raises."""
    with Client(target) as client:
        for _ in range(WARM_UP_CALLS):
            client.sample(model, 1, seed=1, format="uint8")
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            client.sample(model, 1, seed=1, format="uint8")
            done += 1
        return done / (time.perf_counter() - began)


async def concurrent(target: str, model: str, seconds: float, in_flight: int) -> float:
    """Calls a second of `in_flight` callers on one loop. A call that fails raises."""
    async with AsyncClient(target) as client:
        await client.sample(model, 1, seed=1, format="uint8")
        done, began = 0, time.perf_counter()

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < began + seconds:
                await client.sample(model, 1, seed=1, format="uint8")
                done += 1

        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return done / (time.perf_counter() - began)


if __name__ == "__main__":
    target, model, seconds, in_flight = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    rates = {
        "blocking": blocking(target, model, seconds),
        "asyncio": asyncio.run(concurrent(target, model, seconds, in_flight)),
    }
    print(json.dumps(rates))
