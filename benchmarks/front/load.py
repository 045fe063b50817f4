"""Load by h2load or an open loop: a fixed number of calls, each of which must be answered with what was asked for.

h2load counts HTTP statuses, and a gRPC call that failed is a 200, too. So the number of calls is fixed, and two
others count: the server's own statistics, which must have grown by exactly that many answers, and a failure is none;
and the bytes of the messages, which must be at least those of as many whole answers.
"""

from __future__ import annotations

import json
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from front.peers import Peer
from front.processes import BenchError, command_of, cpu_seconds, output_of, pinned

FRAME_BYTES = 5
GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
SETTLE_SECONDS = 2.0
"""How long a server's statistics may lag behind its answers."""


@dataclass(frozen=True)
class Call:
    """One kind of call: to whom, what, and how large its answer is at least."""

    name: str
    peer: Peer
    method: str
    """Path of the method, `/package.Service/Method`."""
    body: bytes
    """As it is sent; for gRPC see `frame`."""
    payload_bytes: int
    """Bytes that every right answer holds: its tensors."""
    counted: int = 1
    """By how much one call raises the server's count of answers; 0: it is counted nowhere."""
    headers: tuple[str, ...] = GRPC_HEADERS
    http1: bool = False
    """HTTP/1.1, where a connection has one call at a time."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value before which `share` of all come in their order, or the largest."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    calls: int
    seconds: float
    cpu_seconds: float
    """Of the server."""
    latencies: tuple[float, ...]
    """Seconds of every call."""
    late: tuple[float, ...] = ()
    """By how many seconds each call of an open loop was sent late."""

    @property
    def calls_per_second(self) -> float:
        """Calls answered a second."""
        return self.calls / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of the server a call, in microseconds."""
        return 1e6 * self.cpu_seconds / self.calls

    def quantile(self, share: float) -> float:
        """A quantile of the latencies, in seconds."""
        return quantile(self.latencies, share)

    @property
    def p50(self) -> float:
        """The median latency, in seconds."""
        return statistics.median(self.latencies)


@dataclass(frozen=True)
class Report:
    """What h2load prints, or the open loop."""

    seconds: float
    succeeded: int
    not_2xx: int
    data_bytes: int


@dataclass(frozen=True)
class Raw:
    """One run, before anything is checked; seconds of every call."""

    report: Report
    latencies: tuple[float, ...]
    late: tuple[float, ...] = ()


SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def parse(text: str) -> Report:
    """Read h2load's summary. Raises BenchError where it has none."""
    finished = re.search(r"finished in ([\d.]+)(s|ms|us),", text)
    requests = re.search(r"requests: \d+ total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    traffic = re.search(r"traffic: .*\((\d+)\) data", text)
    if not (finished and requests and statuses and traffic):
        raise BenchError(f"h2load printed no summary: {(text.strip().splitlines() or ['nothing'])[-1]}")
    seconds = float(finished[1]) * SECONDS[finished[2]]
    return Report(seconds, int(requests[1]), sum(int(statuses[i]) for i in (2, 3, 4)), int(traffic[1]))


def frame(request: Message) -> bytes:
    """A message as gRPC frames it."""
    body = request.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


class Load:
    """h2load on one core."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._h2load = command_of("h2load", "nghttp2-client")

    def version(self) -> str:
        """What h2load says of itself."""
        return subprocess.run([self._h2load, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def run(
        self, call: Call, calls: int, *, connections: int = 8, in_flight: int = 64, per_second: float | None = None
    ) -> Run:
        """Make `calls` calls, `in_flight` at a time. Raises BenchError unless every one was answered rightly."""
        return self._checked(call, calls, lambda: self.raw(call, calls, connections, in_flight, per_second))

    def open_loop(self, call: Call, calls: int, per_second: float, *, connections: int = 8, seed: int = 1) -> Run:
        """Make `calls` calls at a rate, whatever is under way (see front/open_loop.py). Raises BenchError as `run`."""
        return self._checked(call, calls, lambda: self._by_clock(call, calls, per_second, connections, seed))

    def _checked(self, call: Call, calls: int, load: Callable[[], Raw]) -> Run:
        answered = call.peer.answered() if call.counted else 0
        cpu = cpu_seconds(call.peer.pid)
        raw = load()
        cpu = cpu_seconds(call.peer.pid) - cpu
        report = raw.report
        if report.succeeded != calls or report.not_2xx:
            raise BenchError(f"{call.name}: {report.succeeded} of {calls} calls were answered at all")
        if report.data_bytes < calls * (call.payload_bytes + (0 if call.http1 else FRAME_BYTES)):
            raise BenchError(f"{call.name}: {report.data_bytes} bytes came for {calls} answers of {call.payload_bytes}")
        if call.counted:
            self._settle(call, answered + calls * call.counted)
        return Run(calls, report.seconds, cpu, raw.latencies, raw.late)

    def _by_clock(self, call: Call, calls: int, per_second: float, connections: int, seed: int) -> Raw:
        with tempfile.NamedTemporaryFile(prefix="latentserve-bench-") as body:
            body.write(call.body)
            body.flush()
            command = [sys.executable, "-m", "front.open_loop", call.peer.target, call.method, body.name]
            command += [str(calls), str(per_second), str(connections), str(seed)]
            printed = json.loads(output_of(self._core, command))
        report = Report(printed["seconds"], len(printed["latencies"]), 0, printed["data_bytes"])
        return Raw(report, tuple(printed["latencies"]), tuple(printed["late"]))

    def raw(self, call: Call, calls: int, connections: int, in_flight: int, per_second: float | None) -> Raw:
        """One run of h2load, unchecked."""
        connections = min(in_flight if call.http1 else connections, calls)
        with tempfile.TemporaryDirectory(prefix="latentserve-bench-") as folder:
            body, log = Path(folder, "body"), Path(folder, "log")
            body.write_bytes(call.body)
            command = [self._h2load, "-t", "1", "-c", str(connections), "-m", str(max(1, in_flight // connections))]
            command += ["-n", str(calls), "-d", str(body), "--log-file", str(log)]
            command += [part for header in call.headers for part in ("-H", header)]
            command += ["--h1"] if call.http1 else []
            command += ["--rps", f"{per_second:g}"] if per_second else []
            scheme = "http" if call.peer.certificate is None else "https"
            done = subprocess.run(
                pinned(self._core, [*command, f"{scheme}://{call.peer.target}{call.method}"]),
                capture_output=True,
                text=True,
                check=False,
            )
            latencies = tuple(float(line.split("\t")[2]) / 1e6 for line in log.read_text().splitlines())
        return Raw(parse(done.stdout or done.stderr), latencies)

    @staticmethod
    def _settle(call: Call, answered: int) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while (now := call.peer.answered()) != answered:
            if time.monotonic() > until:
                raise BenchError(
                    f"{call.name}: the server has counted {now - answered:+} answers beside the calls made"
                )
            time.sleep(0.02)
