"""What a call costs as one thing grows: its rows, callers, connections, models, and the bytes of its reply.

Each point is measured once, for about as long as a round: it is the shape of a curve that counts, and ratios along it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from front import calls
from front.load import Call, Run
from front.models import Model
from front.peers import Peer, latentserve
from front.processes import BenchError, Cores, cpu_seconds, memory_mib
from front.turns import IN_FLIGHT, Turns

ROWS = (1, 4, 16, 64, 256, 1000, 4000, 10_000)
CALLERS = (1, 4, 16, 64, 256, 512)
CONNECTIONS = (1, 4, 16, 64, 256)
MODELS = (1, 5, 10, 20)
REPLY_KIB = (1, 4, 16, 64, 256, 1024, 4096, 16_384)
MOST_ROWS = 20_000
ROWS_UNDER_WAY = 16_384
"""Half of what may wait for a graph (see SERVER_OPTIONS)."""
POINT_SECONDS = 1.5
LEAST_CALLS = 4


@dataclass(frozen=True)
class Point:
    """One measurement."""

    at: int
    calls_per_second: float
    cpu_us_a_call: float
    """Processor time of the server, in microseconds."""
    p50_us: float
    p99_us: float
    beside: Mapping[str, float] = field(default_factory=dict)
    """What else was measured there, by name with unit."""


@dataclass(frozen=True)
class Curve:
    """Points along one thing that grows."""

    what: str
    points: Sequence[Point]
    each: str | None = None
    """One of what grows, where a call has `at` of them and its cost is to be seen by each."""


def growth(turns: Turns, cores: Cores, repository: Path, reference: calls.Reference) -> list[Curve]:
    """All curves, for one model of which a row costs little. Raises BenchError at the first wrong answer."""
    with latentserve(cores.server, repository, f"--max-rows-per-request={MOST_ROWS}") as peer:
        one = calls.sample(peer, reference, 1)
        curves = [
            _curve(turns, "rows a call", ROWS, lambda rows: _rows(turns, peer, reference, rows), "row"),
            _curve(turns, "callers", CALLERS, lambda count: _point(turns, one, count, in_flight=count)),
            _curve(turns, "connections", CONNECTIONS, lambda count: _connections(turns, one, count)),
            _curve(turns, "KiB a reply", REPLY_KIB, lambda kib: _reply(turns, peer, reference, kib), "KiB"),
        ]
    return [*curves, _curve(turns, "models", MODELS, lambda count: _models(turns, cores, reference, count))]


def _curve(turns: Turns, what: str, places: Sequence[int], measure: Callable[[int], Point], each: str = "") -> Curve:
    points = [measure(place) for place in places]
    turns.say(f"growth of {what} measured")
    return Curve(what, points, each or None)


def _rows(turns: Turns, peer: Peer, reference: calls.Reference, rows: int) -> Point:
    in_flight = _under_way(rows)
    call = calls.sample(peer, reference, rows)
    return _point(turns, call, rows, in_flight=in_flight, beside={"calls in flight": in_flight})


def _reply(turns: Turns, peer: Peer, reference: calls.Reference, kib: int) -> Point:
    """float32 images, which have four times the bytes of uint8 for the same rows; the smallest is one of uint8."""
    rows = max(1, round(kib * 1024 / reference.model.float_bytes))
    call = calls.sample_floats(peer, reference, rows) if kib > 1 else calls.sample(peer, reference, rows)
    return _point(turns, call, kib, in_flight=_under_way(rows), beside={"rows": rows})


def _connections(turns: Turns, call: Call, count: int) -> Point:
    """As many callers for every number of connections."""
    return _point(turns, call, count, in_flight=max(CONNECTIONS), connections=count)


def _under_way(rows: int) -> int:
    return max(1, min(IN_FLIGHT, ROWS_UNDER_WAY // rows))


def _point(
    turns: Turns,
    call: Call,
    at: int,
    *,
    in_flight: int,
    connections: int = 8,
    beside: Mapping[str, float] = MappingProxyType({}),
) -> Point:
    connections = min(connections, in_flight)
    rate = turns.load.run(call, max(LEAST_CALLS, in_flight), connections=connections, in_flight=in_flight)
    count = max(LEAST_CALLS, in_flight, round(rate.calls_per_second * POINT_SECONDS))
    run = turns.load.run(call, count, connections=connections, in_flight=in_flight)
    return _of(at, run, beside)


def _of(at: int, run: Run, beside: Mapping[str, float]) -> Point:
    return Point(at, run.calls_per_second, run.cpu_us, 1e6 * run.p50, 1e6 * run.quantile(0.99), dict(beside))


def _models(turns: Turns, cores: Cores, reference: calls.Reference, count: int) -> Point:
    """Calls to all of so many models at once, about as many in flight together as anywhere."""
    with _copies(reference.model, count) as repository, latentserve(cores.server, repository) as peer:
        one = replace(calls.sample(peer, reference, 1), counted=0)
        own = [replace(one, body=calls.sample_body(name, 1)) for name in _names(reference.model, count)]
        in_flight = max(1, IN_FLIGHT // count)

        def all_models(each: int) -> Run:
            answered, cpu, began = peer.answered(), cpu_seconds(peer.pid), time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                runs = list(pool.map(lambda call: turns.load.run(call, each, in_flight=in_flight), own))
            seconds, cpu = time.perf_counter() - began, cpu_seconds(peer.pid) - cpu
            if peer.answered() < answered + count * each:
                raise BenchError(f"{one.name}: not every call to {count} models was answered")
            return Run(count * each, seconds, cpu, tuple(latency for run in runs for latency in run.latencies))

        each = max(LEAST_CALLS, round(all_models(in_flight * 4).calls_per_second * POINT_SECONDS / count))
        beside = {"MiB": memory_mib(peer.pid), "s to SERVING": peer.seconds_to_serving}
        return _of(count, all_models(each), beside)


@contextmanager
def _copies(model: Model, count: int) -> Iterator[Path]:
    """A repository with the model under its own name, and under others."""
    with tempfile.TemporaryDirectory(prefix="latentserve-bench-") as folder:
        for name in _names(model, count):
            shutil.copytree(model.folder, Path(folder, name, model.folder.name))
        yield Path(folder)


def _names(model: Model, count: int) -> list[str]:
    return [model.name, *(f"{model.name}_{place}" for place in range(1, count))]
