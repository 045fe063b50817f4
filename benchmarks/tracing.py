"""What traces cost in calls a second and in the server's processor time.

    python benchmarks/tracing.py --repository demo/models

Servers that trace none, 1 % and all of the calls take turns on one core, each started anew, since two processes of the
same server differ by some percent: "off again" shows by how much. h2load (Debian's nghttp2-client) calls Sample of one
row from another core, 64 calls in flight over 8 connections. There a collector counts the spans, too. Prints medians,
and of their ratios to the server without traces in the same round, with the quarter of the rounds below and above.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from front.calls import GENERATION, sample_body
from front.load import GRPC_HEADERS, parse
from front.processes import choose_cores, command_of, cpu_seconds, pinned
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from server_process import serving

OFF, IMAGE_BYTES = "off", 784
RATIOS = {OFF: 0.0, "off again": 0.0, "1 %": 0.01, "100 %": 1.0}
WARM_CALLS = 2_000


class Measured(NamedTuple):
    """What a run found."""

    calls_per_second: float
    cpu_us: float
    """Of the server, a call."""
    spans: float
    """That reached the collector, a call."""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts spans."""

    def __init__(self) -> None:
        self.spans = 0

    def Export(  # noqa: N802 - the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take spans."""
        self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def collect(connection: Connection, core: int) -> None:
    """The collector's process: says its port, and then at every word how many spans have come."""
    os.sched_setaffinity(0, {core})
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    connection.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    while connection.recv():
        connection.send(collector.spans)


@contextmanager
def collecting(core: int) -> Iterator[Connection]:
    """The connection to a collector, for the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=collect, args=(theirs, core), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="mlp_gan")
    parser.add_argument("--calls", type=int, default=20_000, help="calls a run; default %(default)s")
    parser.add_argument("--rounds", type=int, default=11, help="default %(default)s")
    asked = parser.parse_args()
    cores = choose_cores()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        body = Path(folder) / "body"
        body.write_bytes(sample_body(asked.model, 1))
        collector = stack.enter_context(collecting(cores.load))
        endpoint = f"--trace-endpoint=http://127.0.0.1:{collector.recv()}"
        os.sched_setaffinity(0, {cores.server})  # the servers inherit it
        os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "500"  # so that a run of a second or two sends what it makes

        def spans() -> int:
            collector.send("how many?")
            return int(collector.recv())

        def measure(name: str) -> Measured:
            options = "--access-log=false", endpoint, f"--trace-ratio={RATIOS[name]}"
            known = spans()
            with serving(asked.repository, *options) as server:
                address = f"http://127.0.0.1:{server.port}{GENERATION}/Sample"
                load(address, body, WARM_CALLS, cores.load)
                before = cpu_seconds(server.process.pid)
                rate = load(address, body, asked.calls, cores.load)
                cpu_us = (cpu_seconds(server.process.pid) - before) / asked.calls * 1e6
                server.process.terminate()
                server.process.wait()
            return Measured(rate, cpu_us, (spans() - known) / (asked.calls + WARM_CALLS))

        rounds = [
            {name: measure(name) for name in (RATIOS if place % 2 else reversed(RATIOS))}
            for place in range(asked.rounds)
        ]
    print(f"Sample of {asked.model}, 1 row, 64 calls in flight over 8 connections; medians of {asked.rounds} rounds")
    print_table(rounds)


def print_table(rounds: Sequence[Mapping[str, Measured]]) -> None:
    """A line for each ratio: its medians, and those of its ratios to the server that traces nothing."""
    for name in RATIOS:
        rate, cpu, spans = (statistics.median(column) for column in zip(*(one[name] for one in rounds), strict=True))
        rates = [one[name].calls_per_second / one[OFF].calls_per_second for one in rounds]
        times = [one[name].cpu_us / one[OFF].cpu_us for one in rounds]
        print(
            f"{name:<9} {rate:7,.0f} calls/s, {_spread(rates)}; {cpu:6.1f} us of the server a call, {_spread(times)};"
            f" {spans:.3f} spans a call"
        )


def _spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def load(address: str, body: Path, calls: int, core: int) -> float:
    """Calls a second. Exits where one is not answered with an image."""
    options = [word for header in GRPC_HEADERS for word in ("-H", header)]
    command = [command_of("h2load", "nghttp2-client"), "-n", str(calls), "-c", "8", "-m", "8", *options]
    command = pinned(core, [*command, "-d", str(body), address])
    report = parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if report.succeeded < calls or report.data_bytes < calls * IMAGE_BYTES:
        sys.exit(f"of {calls} calls to {address} not all were answered: {report}")
    return calls / report.seconds


if __name__ == "__main__":
    main()
