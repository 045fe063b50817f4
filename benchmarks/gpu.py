"""Parity and throughput of every graph of a repository on a GPU: raw, and through the server.

    python benchmarks/gpu.py --repository models --output benchmarks/results

`make gpu-check` runs it after the server's tests. Golden rows are the outputs of the model that was exported, so a
graph that reproduces them within 1e-4 on the device agrees with PyTorch's. Graphs run in three ways: plain, through
buffers that stay on the device (bound), and as captured CUDA graphs (graphs). With --device cpu the script proves
itself; such figures say nothing of a GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from server_process import serving

from latentserve.v1 import bundle_pb2, generation_pb2, generation_pb2_grpc
from latentserve_server.available_cpus import available_cpus
from latentserve_server.bundle.bundle import Bundle, read_bundle
from latentserve_server.bundle.manifest import role_name
from latentserve_server.engine import Cpu, Cuda, Engine, choose_placement, runtime_version
from latentserve_server.errors import DeviceError

TOLERANCE = 1e-4
CALLERS = 4
Row = dict[str, Any]

SERVER_OPTIONS = {
    "plain": ("--pad-batches=never",),
    "bound": ("--pad-batches=always",),
    "graphs": ("--pad-batches=always", "--cuda-graphs=true"),
}


def ways(device: str) -> Sequence[str]:
    """How graphs can run on the device."""
    return ("plain", "bound", "graphs") if device == "cuda" else ("plain", "bound")


def bundles(repository: Path) -> Iterator[tuple[str, Bundle]]:
    """The highest version of every model."""
    for model in sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith(".")):
        version = max(int(path.name) for path in model.iterdir() if path.name.isdigit())
        yield model.name, read_bundle(model / str(version))


def measure_graph(
    bundle: Bundle, role: bundle_pb2.GraphRole, device: str, batches: Sequence[int], seconds: float
) -> Row:
    """Parity, nodes left to the CPU, and rows a second of one graph, in every way."""
    golden = {
        name.partition(".")[2]: array for name, array in bundle.golden.items() if name.startswith(role_name(role))
    }
    row: Row = {"graph": role_name(role), "max_abs_error": {}, "rows_per_second": {}}
    for way in ways(device):
        placement = Cuda(graphs=way == "graphs") if device == "cuda" else Cpu(threads=available_cpus())
        engine = Engine(bundle.graphs[role], placement)
        row["cpu_nodes"] = dict(engine.cpu_operators)
        errors, rates = [], {}
        for rows in batches:
            repeated = {name: array[np.arange(rows) % len(array)] for name, array in golden.items()}
            if way != "plain":
                engine.bind(rows)
            inputs = {name: repeated[name] for name in bundle.inputs(role)}
            errors.append(parity(engine.run(inputs, list(bundle.outputs(role))), repeated))
            rates[rows] = rows / median_seconds(engine, inputs, list(bundle.outputs(role))[:1], seconds)
        row["max_abs_error"][way] = max(errors)
        row["rows_per_second"][way] = rates
    return row


def parity(computed: dict[str, Any], golden: dict[str, Any]) -> float:
    """The largest absolute difference of a float output, relative where a value is larger than 1."""
    floats = [name for name, array in computed.items() if array.dtype == np.float32]
    return max(
        float((np.abs(computed[name] - golden[name]) / np.maximum(1, np.abs(golden[name]))).max()) for name in floats
    )


def median_seconds(engine: Engine, inputs: dict[str, Any], outputs: Sequence[str], seconds: float) -> float:
    """The median time of a run, of as many as there are in `seconds`, and of three at least."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        began = time.perf_counter()
        engine.run(inputs, outputs)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def through_server(port: int, model: str, rows: int, seconds: float) -> float:
    """Images a second of callers who sample `rows` uint8 images at a time."""
    request = generation_pb2.SampleRequest(
        model={"name": model}, count=rows, seed=1, output={"format": generation_pb2.IMAGE_FORMAT_UINT8}
    )
    done = 0

    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", [("grpc.max_receive_message_length", 64 << 20)]
    ) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        await stub.Sample(request)
        began = time.perf_counter()

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < began + seconds:
                await stub.Sample(request)
                done += rows

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return done / (time.perf_counter() - began)


def measure_server(
    repository: Path, models: Sequence[str], device: str, batches: Sequence[int], seconds: float
) -> dict[str, Row]:
    """Images a second by model, way and rows a call."""
    rates: dict[str, Row] = {model: {} for model in models}
    for way in ways(device):
        options = (*SERVER_OPTIONS[way], f"--device={device}", f"--max-batch-rows={max(batches)}", "--access-log=false")
        with serving(repository, *options) as server:
            for model in models:
                measured = {rows: asyncio.run(through_server(server.port, model, rows, seconds)) for rows in batches}
                rates[model][way] = measured
    return rates


def markdown(results: Row) -> str:
    """The results for people."""
    lines = [f"# {results['device']}", "", f"onnxruntime {results['onnxruntime']}; rows a second.", ""]
    for model in results["models"]:
        for row in [*model["graphs"], {"graph": "through the server", "rows_per_second": model["server"]}]:
            rates = row["rows_per_second"]
            sizes = list(next(iter(rates.values())))
            lines += [f"## {model['name']}, {row['graph']}", ""]
            if "cpu_nodes" in row:
                errors = ", ".join(f"{way} {error:.1e}" for way, error in row["max_abs_error"].items())
                lines += [f"Largest error against PyTorch: {errors}. Nodes left to the CPU: {row['cpu_nodes']}.", ""]
            lines += ["| rows | " + " | ".join(rates) + " |", "|---" * (len(rates) + 1) + "|"]
            lines += [f"| {rows} | " + " | ".join(f"{rates[way][rows]:,.0f}" for way in rates) + " |" for rows in sizes]
            lines.append("")
    return "\n".join(lines)


def device_name(device: str) -> str:
    """What the driver calls the GPU."""
    if device == "cpu":
        return "cpu"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def disagreeing(graphs: Mapping[str, Sequence[Row]]) -> list[str]:
    """Graphs that are further from PyTorch's than TOLERANCE, a line each."""
    return [
        f"{name}: the {row['graph']}, {way}, is {error:.1e} from PyTorch where {TOLERANCE:g} is allowed"
        for name, rows in graphs.items()
        for row in rows
        for way, error in row["max_abs_error"].items()
        if error > TOLERANCE
    ]


def main() -> int:
    """Measure, write the results, and fail where a graph does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="Folder for gpu.json and gpu.md.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1024])
    parser.add_argument("--seconds", type=float, default=1.0, help="For each figure.")
    given = parser.parse_args()
    try:
        choose_placement(given.device, Cpu(threads=1), Cuda())
    except DeviceError as error:
        raise SystemExit(f"gpu: {error}") from error
    measured = (given.device, given.batches, given.seconds)
    graphs = {
        name: [measure_graph(bundle, role, *measured) for role in bundle.graphs]
        for name, bundle in bundles(given.repository)
    }
    if wrong := disagreeing(graphs):
        raise SystemExit("\n".join(wrong))
    served = measure_server(given.repository, list(graphs), *measured)
    models = [{"name": name, "graphs": rows, "server": served[name]} for name, rows in graphs.items()]
    results = {"device": device_name(given.device), "onnxruntime": runtime_version(), "models": models}
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "gpu.json").write_text(json.dumps(results, indent=2) + "\n")
    (given.output / "gpu.md").write_text(markdown(results))
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
