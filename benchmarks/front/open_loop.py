"""Calls at a given rate, whether or not earlier ones have been answered: an open loop, with Poisson's arrivals.

    python -m front.open_loop TARGET METHOD REQUEST CALLS PER_SECOND CONNECTIONS SEED     prints JSON

h2load sends what falls within 10 ms at once, where the calls wait for each other, and grpcio's clients take about
100 us of a core for a call; front/http2.py takes about 20. The time of a call counts from when it was to be sent, so a
client or server that falls behind is not let off.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from pathlib import Path

from front.http2 import CallError, Connection, connect

SPIN_SECONDS = 2e-4
"""Before a call is due, the process looks again and again: to be woken takes about a quarter of this."""
LEAD_SECONDS = 0.05
PATIENCE_SECONDS = 30.0


def arrivals(calls: int, per_second: float, seed: int) -> list[float]:
    """When calls are due, in seconds from the start: gaps are exponential."""
    draw, due, times = random.Random(seed), 0.0, []
    for _ in range(calls):
        due += draw.expovariate(per_second)
        times.append(due)
    return times


def run(connections: list[Connection], times: list[float]) -> tuple[list[float], list[float], float]:
    """Make the calls: latencies from when each was due, how late each was sent, and seconds in all.

    Raises CallError where answers stay away.
    """
    sockets = {connection.socket: connection for connection in connections}
    latencies, late = list[float](), list[float]()
    began = heard = time.perf_counter() + LEAD_SECONDS
    while len(latencies) < len(times):
        now = time.perf_counter()
        while len(late) < len(times) and (due := began + times[len(late)]) <= now:
            connections[len(late) % len(connections)].call(due)
            late.append(now - due)
        wait = began + times[len(late)] - time.perf_counter() if len(late) < len(times) else PATIENCE_SECONDS
        readable, _, _ = select.select(list(sockets), [], [], max(0.0, wait - SPIN_SECONDS))
        for ready in readable:
            ended = sockets[ready].receive()
            now = heard = time.perf_counter()
            latencies += [now - due for due in ended]
        if time.perf_counter() > heard + PATIENCE_SECONDS:
            raise CallError(f"no answer for {PATIENCE_SECONDS:g} s; {len(times) - len(latencies)} are missing")
    return latencies, late, time.perf_counter() - began


def main() -> None:
    """Make the calls and print how long they took."""
    target, method, request, calls, per_second, count, seed = sys.argv[1:]
    try:
        connections = connect(target, method, Path(request).read_bytes(), int(count))
        latencies, late, seconds = run(connections, arrivals(int(calls), float(per_second), int(seed)))
    except (CallError, OSError) as error:
        raise SystemExit(f"open loop: {error}") from error
    data_bytes = sum(connection.data_bytes for connection in connections)
    print(json.dumps({"seconds": seconds, "data_bytes": data_bytes, "latencies": latencies, "late": late}))


if __name__ == "__main__":
    main()
