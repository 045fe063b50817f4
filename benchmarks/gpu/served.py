"""The same through the server: images a second by rows a call, calls of one row, and more workers."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from front.beside import knows_workers
from front.load import frame, quantile
from server_process import ServerProcess, serving

from gpu.graphs import Row, last_line, ways
from gpu.watch import Watch, watching
from latentserve.v1 import generation_pb2, generation_pb2_grpc

CALLERS = 4
"""Of large calls: two that wait while one runs and one is sent."""
CALLERS_OF_ONE_ROW, CONNECTIONS = 64, 8
WORKERS = (1, 4, 8)
PROCESSES = 4
"""That load several workers."""
SAMPLE = "/latentserve.v1.GenerationService/Sample"
START_SECONDS = 120.0
LEAST_QUEUE_ROWS = 8192
OPTIONS = {
    "plain": ("--pad-batches=never",),
    "bound": ("--pad-batches=always",),
    "graphs": ("--pad-batches=always", "--cuda-graphs=true"),
}


def measure_batches(
    repository: Path,
    models: Sequence[str],
    device: str,
    batches: Sequence[int],
    seconds: float,
    left: Callable[[], float],
) -> Row:
    """Images a second by model, way and rows a call, and what the GPU did in each way, while there is time `left`."""
    rates: Row = {model: {} for model in models}
    watched: Row = {}
    failed: Row = {}
    for way in ways(device):
        if left() <= 0:
            failed[way] = "no time was left"
            continue
        queue = max(LEAST_QUEUE_ROWS, 2 * CALLERS * max(batches))
        most = (f"--max-batch-rows={max(batches)}", f"--max-queue-rows={queue}")
        try:
            with _watched(repository, device, *OPTIONS[way], *most) as (server, watch):
                for model in models:
                    loads = {rows: closed_loop(server.port, model, rows, seconds, CALLERS, CALLERS) for rows in batches}
                    rates[model][way] = {rows: rows * load["calls_per_second"] for rows, load in loads.items()}
            watched[way] = watch.summary()
        except (Exception, SystemExit) as error:  # the other ways are measured all the same
            failed[way] = last_line(error)
    return {"images_per_second": rates, "watched": watched, "failed": failed}


def measure_single_rows(repository: Path, models: Sequence[str], device: str, seconds: float) -> Row:
    """Calls a second of one row each, and the time of one call at a time, with the server's own defaults."""
    with _watched(repository, device) as (server, watch):
        found: Row = {
            model: {
                "many": closed_loop(server.port, model, 1, seconds, CALLERS_OF_ONE_ROW, CONNECTIONS),
                "one at a time": closed_loop(server.port, model, 1, seconds / 2, 1, 1),
            }
            for model in models
        }
    return {"models": found, "watched": watch.summary()}


def measure_workers(repository: Path, model: str, device: str, seconds: float) -> Row | None:
    """Calls a second of one row by workers; None where the server has no such option."""
    if not knows_workers():
        return None
    found: Row = {}
    for count in WORKERS:
        with _watched(repository, device, f"--workers={count}") as (server, watch):
            load = closed_loop(server.port, model, 1, seconds, CALLERS_OF_ONE_ROW, CONNECTIONS, PROCESSES)
        found[str(count)] = load | {"watched": watch.summary()}
    return found


@contextmanager
def _watched(repository: Path, device: str, *options: str) -> Iterator[tuple[ServerProcess, Watch]]:
    began = time.perf_counter()
    quiet = ("--access-log=false", f"--device={device}")
    with serving(repository, *quiet, *options) as server, watching(server.process.pid, device) as watch:
        print(f"  {' '.join(options) or 'defaults'}: serves after {time.perf_counter() - began:.1f} s", flush=True)
        yield server, watch


def closed_loop(
    port: int, model: str, rows: int, seconds: float, callers: int, connections: int, processes: int = 1
) -> Row:
    """Callers who sample `rows` uint8 images at a time. Raises RuntimeError unless every answer has all its bytes."""
    request = generation_pb2.SampleRequest(
        model={"name": model}, count=rows, seed=1, output={"format": generation_pb2.IMAGE_FORMAT_UINT8}
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", 64 << 20)]) as channel:
        reply = generation_pb2_grpc.GenerationServiceStub(channel).Sample(request, timeout=START_SECONDS)
    with tempfile.NamedTemporaryFile() as body:
        body.write(frame(request))
        body.flush()
        command = [sys.executable, "-m", "front.closed_loop", f"127.0.0.1:{port}", SAMPLE, body.name]
        command += [str(seconds), str(connections), str(callers)]
        printed = _outputs([command] * processes)
    calls = sum(len(part["latencies"]) for part in printed)
    received, wanted = sum(part["data_bytes"] for part in printed), calls * len(reply.images.tensor.data)
    if received < wanted:
        raise RuntimeError(f"{model}, {rows} rows: {received} bytes came for {calls} answers of {wanted} bytes in all")
    latencies = [latency for part in printed for latency in part["latencies"]]
    return {
        "calls_per_second": sum(len(part["latencies"]) / part["seconds"] for part in printed),
        "p50_us": 1e6 * statistics.median(latencies),
        "p99_us": 1e6 * quantile(latencies, 0.99),
    }


def _outputs(commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """What they print, run at the same time."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            for command in commands
        ]
        ended = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, ended, strict=True):
        if process.returncode:
            raise RuntimeError((errors.strip().splitlines() or ["a load ended without a word"])[-1])
    return [json.loads(printed) for printed, _ in ended]
