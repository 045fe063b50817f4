"""Calls of so many callers, each of whom makes the next one when the last is answered.

    python -m front.closed_loop TARGET METHOD REQUEST SECONDS CONNECTIONS CALLERS     prints JSON

For machines without h2load. A call takes this process about 20 us, so several of them load a server of more
processes. What is under way at the end is waited for, and counts, as the time does that it takes.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path

from front.http2 import CallError, Connection, connect

PATIENCE_SECONDS = 30.0


def run(connections: list[Connection], callers: int, seconds: float) -> tuple[list[float], float]:
    """Make calls for so long: latencies, and seconds in all. Raises CallError where answers stay away."""
    sockets = {connection.socket: connection for connection in connections}
    latencies = list[float]()
    began = time.perf_counter()
    for place in range(callers):
        connections[place % len(connections)].call(time.perf_counter())
    under_way = callers
    while under_way:
        readable, _, _ = select.select(list(sockets), [], [], PATIENCE_SECONDS)
        if not readable:
            raise CallError(f"no answer for {PATIENCE_SECONDS:g} s; {under_way} are missing")
        for ready in readable:
            ended = sockets[ready].receive()
            now = time.perf_counter()
            latencies += [now - due for due in ended]
            under_way -= len(ended)
            for _ in ended if now < began + seconds else ():
                sockets[ready].call(now)
                under_way += 1
    return latencies, time.perf_counter() - began


def main() -> None:
    """Make the calls and print how long they took."""
    target, method, request, seconds, count, callers = sys.argv[1:]
    try:
        connections = connect(target, method, Path(request).read_bytes(), int(count))
        latencies, passed = run(connections, int(callers), float(seconds))
    except (CallError, OSError) as error:
        raise SystemExit(f"closed loop: {error}") from error
    data_bytes = sum(connection.data_bytes for connection in connections)
    print(json.dumps({"seconds": passed, "data_bytes": data_bytes, "latencies": latencies}))


if __name__ == "__main__":
    main()
