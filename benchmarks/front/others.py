"""Other servers over the same decoder, as their documentation recommends, each in an environment of its own."""

from __future__ import annotations

import json
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from front import calls
from front.load import Call
from front.models import Model
from front.peers import MAX_BATCH_ROWS, Peer, serving
from front.processes import BenchError, free_port, installed
from front.triton import ready

MOST_CALLS = 64
"""Calls that are joined at most: as many as are in flight."""
BATCH_SECONDS = 0.01
BENCHMARKS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Other:
    """A server of others, and the call that is the same as a Sample here."""

    start: Callable[[int, Path, Model, int], AbstractContextManager[Peer]]
    call: Callable[[Peer, calls.Reference, int], Call]


def most_calls(rows: int) -> int:
    """Calls of `rows` rows that make a batch: these servers count calls, and batches are as large as here."""
    return max(1, min(MOST_CALLS, MAX_BATCH_ROWS // rows))


@contextmanager
def litserve(core: int, environment: Path, model: Model, rows: int) -> Iterator[Peer]:
    """LitServe by HTTP, with one worker for the one core."""
    port = free_port()
    (entry, *_), *_ = model.tensors("DECODER", "inputs")
    command = [_python(environment), "-m", "front.litserve_app", str(port)]
    command += [str(model.graph("DECODER")), entry, str(model.latent_dim), str(most_calls(rows))]

    def healthy(channel: grpc.Channel) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
            return bool(reply.status == 200)

    with serving("litserve", core, command, port, healthy, _env()) as peer:
        yield peer


@contextmanager
def mlserver(core: int, environment: Path, model: Model, rows: int) -> Iterator[Peer]:
    """MLServer by gRPC. Its worker processes are off: with one core they only cost."""
    port, (entry, *_) = free_port(), model.tensors("DECODER", "inputs")[0]
    python = _python(environment)
    server = {
        "host": "127.0.0.1",
        "http_port": free_port(),
        "grpc_port": port,
        "metrics_endpoint": None,
        "debug": False,
        "parallel_workers": 0,
        "grpc_max_message_length": 64 << 20,
    }
    served = {
        "name": model.name,
        "implementation": "front.mlserver_model.Decoder",
        "max_batch_size": most_calls(rows),
        "max_batch_time": BATCH_SECONDS,
        "parameters": {"extra": {"graph": str(model.graph("DECODER")), "input": entry}},
    }
    with tempfile.TemporaryDirectory(prefix="latentserve-bench-") as folder:
        Path(folder, "settings.json").write_text(json.dumps(server))
        Path(folder, "model-settings.json").write_text(json.dumps(served))
        command = [python, str(Path(python).with_name("mlserver")), "start", folder]
        with serving("mlserver", core, command, port, ready, _env()) as peer:
            yield peer


OTHERS = {"litserve": Other(litserve, calls.post), "mlserver": Other(mlserver, calls.infer_elsewhere)}


def other_versions(environments: Path) -> dict[str, dict[str, str]]:
    """Versions of each and of what it runs the graph with. Raises BenchError where one is not installed."""
    return {name: installed(_environment(environments / name), (name, "onnxruntime", "numpy")) for name in OTHERS}


def _environment(environment: Path) -> Path:
    """Absolute, and not resolved: an environment is found by the place of its python."""
    if not (environment / "installed").exists():
        raise BenchError(f"{environment} is not installed: `make bench` does that")
    return environment.absolute()


def _python(environment: Path) -> str:
    return str(_environment(environment) / "bin" / "python")


def _env() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(BENCHMARKS)}
