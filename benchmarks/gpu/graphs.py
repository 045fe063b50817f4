"""Parity and rows a second of every graph of a repository, in every way that it can run on the device.

Golden rows are the outputs of the model that was exported, so a graph that reproduces them within TOLERANCE agrees with
PyTorch's. Graphs run plain, through buffers that stay on the device (bound), and as captured CUDA graphs (graphs).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve_server.available_cpus import available_cpus
from latentserve_server.bundle.bundle import Bundle, read_bundle
from latentserve_server.bundle.manifest import role_name
from latentserve_server.engine import Cpu, Cuda, Engine, Placement

TOLERANCE = 1e-4
MOST_ROWS_ON_CPU = 64
"""Of those that are compared with the CPU's: the CPU takes a hundred times as long."""
Row = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


def ways(device: str) -> Sequence[str]:
    """How graphs can run on the device."""
    return ("plain", "bound", "graphs") if device == "cuda" else ("plain", "bound")


def placement(device: str, way: str) -> Placement:
    """Where, and how."""
    return Cuda(graphs=way == "graphs") if device == "cuda" else Cpu(threads=available_cpus())


def bundles(repository: Path) -> Iterator[tuple[str, Bundle]]:
    """The highest version of every model."""
    for model in sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith(".")):
        version = max(int(path.name) for path in model.iterdir() if path.name.isdigit())
        yield model.name, read_bundle(model / str(version))


def measure_graph(
    bundle: Bundle, role: bundle_pb2.GraphRole, device: str, batches: Sequence[int], seconds: float
) -> Row:
    """Parity with PyTorch and the CPU, nodes left to the CPU, and rows a second of one graph, in every way.

    A way that does not work is in `failed`, with the reason.
    """
    golden = {
        name.partition(".")[2]: array for name, array in bundle.golden.items() if name.startswith(role_name(role))
    }
    few = {name: golden[name][:MOST_ROWS_ON_CPU] for name in bundle.inputs(role)}
    on_cpu = Engine(bundle.graphs[role], Cpu(threads=1)).run(few, list(bundle.outputs(role)))
    row: Row = {"graph": role_name(role), "max_abs_error": {}, "from_cpu": {}, "rows_per_second": {}, "failed": {}}
    for way in ways(device):
        try:
            engine = Engine(bundle.graphs[role], placement(device, way))
            row["cpu_nodes"] = dict(engine.cpu_operators)
            found = [_measure(engine, way, golden, list(few), on_cpu, rows, seconds) for rows in batches]
        except Exception as error:  # the other ways are measured all the same
            row["failed"][way] = last_line(error)
            continue
        errors, apart, rates = zip(*found, strict=True)
        row["max_abs_error"][way], row["from_cpu"][way] = max(errors), max(apart)
        row["rows_per_second"][way] = dict(zip(batches, rates, strict=True))
    return row


def _measure(
    engine: Engine, way: str, golden: Arrays, inputs: Sequence[str], on_cpu: Arrays, rows: int, seconds: float
) -> tuple[float, float, float]:
    """How far from PyTorch, how far from the CPU, and rows a second."""
    repeated = {name: array[np.arange(rows) % len(array)] for name, array in golden.items()}
    if way != "plain":
        engine.bind(rows)
    fed, outputs = {name: repeated[name] for name in inputs}, list(on_cpu)
    computed = engine.run(fed, outputs)
    both = min(rows, *(len(array) for array in on_cpu.values()))
    heads = ({name: array[:both] for name, array in arrays.items()} for arrays in (computed, on_cpu))
    rate = rows / median_seconds(engine, fed, outputs[:1], seconds)
    return difference(computed, repeated), difference(*heads), rate


def last_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"


def difference(computed: Arrays, expected: Mapping[str, NDArray[Any]]) -> float:
    """The largest absolute difference of a float output, relative where a value is larger than 1."""
    floats = [name for name, array in computed.items() if array.dtype == np.float32]
    return max(
        float((np.abs(computed[name] - expected[name]) / np.maximum(1, np.abs(expected[name]))).max())
        for name in floats
    )


def median_seconds(engine: Engine, inputs: Arrays, outputs: Sequence[str], seconds: float) -> float:
    """The median time of a run, of as many as there are in `seconds`, and of three at least."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        began = time.perf_counter()
        engine.run(inputs, outputs)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def graph_problems(graphs: Mapping[str, Sequence[Row]]) -> list[str]:
    """Ways of graphs that do not work, or are further from PyTorch's than TOLERANCE, a line each."""
    rows = [(name, row) for name, rows in graphs.items() for row in rows]
    return [
        *(f"{name}: the {row['graph']}, {way}: {why}" for name, row in rows for way, why in row["failed"].items()),
        *(
            f"{name}: the {row['graph']}, {way}, is {error:.1e} from PyTorch where {TOLERANCE:g} is allowed"
            for name, row in rows
            for way, error in row["max_abs_error"].items()
            if error > TOLERANCE
        ),
    ]
