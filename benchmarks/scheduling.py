"""What callers of one image feel while others ask for thousands, and what happens when all ask for too much.

    python benchmarks/scheduling.py --repository models --model conv_vae

Prints the time of one full batch, the latency of single-image calls alone and beside calls of thousands of images, then
what becomes of a load of several times the capacity. The figure to hold is what the others add to a call's latency, in
full batches: the one that runs when the call comes, and the rows that share the next.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import statistics
import sys
import time
from pathlib import Path

from server_process import serving

from latentserve_client import AsyncClient, CallError

SINGLE_CALLERS = 4
OVERLOAD_CALLERS = 64


async def single_calls(target: str, model: str, until: float, milliseconds: list[float]) -> None:
    """One caller of one image at a time; notes how long each call took."""
    async with AsyncClient(target) as client:
        while time.monotonic() < until:
            began = time.monotonic()
            await client.sample(model, 1, seed=1, format="uint8")
            milliseconds.append(1e3 * (time.monotonic() - began))


async def large_calls(target: str, model: str, until: float, rows: list[int], count: int) -> None:
    """One caller of thousands of images at a time."""
    async with AsyncClient(target, timeout=120.0) as client:
        while time.monotonic() < until:
            await client.sample(model, count, seed=2, format="uint8")
            rows.append(count)


async def full_batch_ms(target: str, model: str) -> float:
    """The median time that the engine takes for a batch of the largest size, as the server says."""
    async with AsyncClient(target) as client:
        size = (await client.model(model)).limits.max_batch_rows
        runs = [(await client.sample(model, size, seed=3, format="uint8")).served.timing for _ in range(50)]
    return statistics.median(timing.compute_ns for timing in runs) / 1e6


async def fairness(target: str, model: str, seconds: float, count: int) -> None:
    """Single-image calls alone, then beside a caller of `count` images."""
    batch = await full_batch_ms(target, model)
    print(f"one full batch: {batch:.1f} ms")
    own = await _single_latency("alone", target, model, seconds)
    rows: list[int] = []
    large = large_calls(target, model, time.monotonic() + seconds, rows, count)
    beside, _ = await asyncio.gather(_single_latency(f"beside calls of {count} images", target, model, seconds), large)
    print(f"  the others add {(beside - own) / batch:.2f} full batches to the p99")
    print(f"  the large caller had {sum(rows) / seconds:.0f} images/s")


async def _single_latency(name: str, target: str, model: str, seconds: float) -> float:
    """The 99th percentile, in milliseconds, of calls of one image."""
    until = time.monotonic() + seconds
    milliseconds: list[float] = []
    await asyncio.gather(*(single_calls(target, model, until, milliseconds) for _ in range(SINGLE_CALLERS)))
    p50, p99 = quantiles(milliseconds)
    print(f"single-image calls {name}: {len(milliseconds)} calls, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return p99


async def overload(target: str, model: str, seconds: float, count: int) -> None:
    """Callers who have half a second of patience, and call again at once, or 50 ms after they were refused."""
    endings: collections.Counter[str] = collections.Counter()
    milliseconds: dict[str, list[float]] = collections.defaultdict(list)
    until = time.monotonic() + seconds

    async def caller() -> None:
        async with AsyncClient(target, timeout=0.5) as client:
            while time.monotonic() < until:
                began = time.monotonic()
                try:
                    await client.sample(model, count, seed=1, format="uint8")
                    ending = "OK"
                except CallError as error:
                    ending = error.code.name
                endings[ending] += 1
                milliseconds[ending].append(1e3 * (time.monotonic() - began))
                if ending == "RESOURCE_EXHAUSTED":
                    await asyncio.sleep(0.05)

    await asyncio.gather(*(caller() for _ in range(OVERLOAD_CALLERS)))
    print(f"overload: {OVERLOAD_CALLERS} callers of {count} images with 0.5 s of patience: {dict(endings)}")
    for ending, values in sorted(milliseconds.items()):
        p50, p99 = quantiles(values)
        print(f"  {ending}: {len(values) / seconds:.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def main() -> int:
    """Start a server and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--count", type=int, default=4096, help="Images of a large call.")
    parser.add_argument("--overload-count", type=int, default=64, help="Images of a call of the overload.")
    arguments = parser.parse_args()
    with serving(arguments.repository, "--access-log=false") as server:
        target = f"127.0.0.1:{server.port}"
        asyncio.run(fairness(target, arguments.model, arguments.seconds, arguments.count))
        asyncio.run(overload(target, arguments.model, arguments.seconds, arguments.overload_count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
