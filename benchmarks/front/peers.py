"""The servers that are measured, started as their documentation recommends: this one, Triton, one that does nothing."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from front.models import Model
from front.processes import BenchError, command_of, free_port, output_of, running
from latentserve.oip import inference_pb2, inference_pb2_grpc

SERVER = "from latentserve_server.cli import main; raise SystemExit(main())"
SERVER_OPTIONS = (
    "--device=cpu",
    "--cpu-threads=1",
    "--access-log=false",
    "--metrics-listen=off",
    "--max-batch-rows=256",
    "--max-queue-rows=32768",
    "--log-level=warning",
)
"""One core for one thread. 64 calls of 256 rows wait at a time, which is twice what the queue takes by default."""
MAX_BATCH_ROWS = 256
START_SECONDS = 60.0
POLL_SECONDS = 0.01
DATA_TYPES = {"FLOAT32": "TYPE_FP32", "UINT8": "TYPE_UINT8"}


@dataclass(frozen=True)
class Peer:
    """A server that answers."""

    name: str
    pid: int
    port: int
    seconds_to_serving: float
    """From the start of its process until it said that it serves."""

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def answered(self) -> int:
        """Calls that it has answered since it started, by its own statistics of all models; failures do not count."""
        with grpc.insecure_channel(self.target) as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            reply = stub.ModelStatistics(inference_pb2.ModelStatisticsRequest(), timeout=START_SECONDS)
        return sum(model.inference_stats.success.count for model in reply.model_stats)


@contextmanager
def latentserve(core: int, repository: Path) -> Iterator[Peer]:
    """This checkout's server over the repository."""
    port = free_port()
    command = [sys.executable, "-c", SERVER, "--repository", str(repository), f"--listen=127.0.0.1:{port}"]
    with _serving("latentserve", core, [*command, *SERVER_OPTIONS], port, _healthy, _installed()) as peer:
        yield peer


def _installed() -> dict[str, str]:
    """An environment in which modules keep their bytecode, as an installed server's do."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def empty(core: int, size: int) -> Iterator[Peer]:
    """A grpc.aio server that answers every call with `size` bytes."""
    port = free_port()
    command = [sys.executable, "-m", "front.empty_server", str(port), str(size)]
    with _serving("empty", core, command, port, lambda channel: True) as peer:
        yield peer


@contextmanager
def triton(core: int, environment: Path, models: Sequence[Model]) -> Iterator[Peer]:
    """Triton's server with its Python backend over onnxruntime: decoders as `NAME`, encoders as `NAME.encoder`."""
    home = _triton_home(environment)
    with tempfile.TemporaryDirectory(prefix="latentserve-bench-") as folder:
        backends, repository = Path(folder, "backends"), Path(folder, "models")
        _link_backend(home, environment, backends / "python")
        for model in models:
            _write_model(repository, model.name, model, "DECODER", ["image_uint8"])
            if any(graph["role"] == "GRAPH_ROLE_ENCODER" for graph in model.manifest["graphs"]):
                _write_model(repository, f"{model.name}.encoder", model, "ENCODER", ["mean", "log_variance"])
        port = free_port()
        command = [
            str(home / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--allow-http=false",
            "--allow-metrics=false",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={port}",
            "--disable-auto-complete-config",
            "--log-info=false",
        ]
        with _serving("triton", core, command, port, _ready, _triton_env(environment)) as peer:
            yield peer


def triton_versions(environment: Path) -> dict[str, str]:
    """Versions of the packages in Triton's environment. Raises BenchError where it cannot be used."""
    _triton_home(environment)
    names = ("nvidia-pytriton", "onnxruntime", "numpy")
    program = f"import importlib.metadata as m; print(*(f'{{name}}={{m.version(name)}}' for name in {names}))"
    done = subprocess.run([environment / "bin" / "python", "-c", program], capture_output=True, text=True, check=True)
    return dict(part.split("=", 1) for part in done.stdout.split())


def _triton_home(environment: Path) -> Path:
    found = list(environment.glob("lib/python3*/site-packages/pytriton/tritonserver"))
    if not found:
        raise BenchError(f"{environment} has no Triton: `make bench` installs it there")
    listed = subprocess.run(
        [command_of("ldd", "libc-bin"), found[0] / "bin" / "tritonserver"], capture_output=True, text=True, check=False
    )
    missing = re.findall(r"(\S+) => not found", listed.stdout)
    if missing:
        raise BenchError(f"Triton needs {', '.join(missing)}: install Debian's libb64-0d (apt-get install libb64-0d)")
    return found[0]


def _link_backend(home: Path, environment: Path, folder: Path) -> None:
    """The backend looks for its stub beside itself; the wheel has one for every version of Python elsewhere."""
    version = next((environment / "lib").glob("python3*")).name.removeprefix("python")
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise BenchError(f"Triton's Python backend has no stub for Python {version}")
    folder.mkdir(parents=True)
    for path in (*(home / "backends" / "python").iterdir(), stub):
        (folder / path.name).symlink_to(path.resolve())


def _triton_env(environment: Path) -> dict[str, str]:
    """The stub finds its packages by the `python3` that comes first in PATH, whatever Python's own variables say."""
    program = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    libraries = subprocess.run(
        [environment / "bin" / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = f"{environment.resolve() / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "LD_LIBRARY_PATH": libraries}


def _write_model(repository: Path, name: str, model: Model, role: str, outputs: Sequence[str]) -> None:
    """Dynamic batching with its defaults is what Triton's documentation begins with: largest batches, no delay."""
    (entry, _, shape), *_ = model.tensors(role, "inputs")
    tensors = {out: (DATA_TYPES[kind], dims) for out, kind, dims in model.tensors(role, "outputs")}
    written = ", ".join(_tensor(out, *tensors[out]) for out in outputs)
    taken = _tensor(entry, "TYPE_UINT8" if role == "ENCODER" else "TYPE_FP32", shape)
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("triton_model.py"), folder / "1" / "model.py")
    (folder / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {MAX_BATCH_ROWS}\ndynamic_batching {{ }}\n'
        f"instance_group [ {{ kind: KIND_CPU count: 1 }} ]\ninput [ {taken} ]\noutput [ {written} ]\n"
        f'parameters: {{ key: "graph" value: {{ string_value: "{model.graph(role)}" }} }}\n'
    )


def _tensor(name: str, data_type: str, dims: Sequence[int]) -> str:
    return f'{{ name: "{name}" data_type: {data_type} dims: {list(dims)} }}'


@contextmanager
def _serving(
    name: str,
    core: int,
    command: Sequence[str],
    port: int,
    ready: Callable[[grpc.Channel], bool],
    env: dict[str, str] | None = None,
) -> Iterator[Peer]:
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        with running(core, command, log, env) as process:
            while not _answers(port, ready):
                if process.poll() is not None or time.perf_counter() > began + START_SECONDS:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                    raise BenchError(f"{name} does not serve: {lines[-1]}")
                time.sleep(POLL_SECONDS)
            yield Peer(name, process.pid, port, time.perf_counter() - began)


def _answers(port: int, ready: Callable[[grpc.Channel], bool]) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            return ready(channel)
    except (OSError, grpc.RpcError):
        return False


def _healthy(channel: grpc.Channel) -> bool:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    reply = check(health_pb2.HealthCheckRequest(), timeout=1)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _ready(channel: grpc.Channel) -> bool:
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    return bool(stub.ServerReady(inference_pb2.ServerReadyRequest(), timeout=1).ready)


def bare_rows_per_second(core: int, model: Model, seconds: float, batches: Sequence[int]) -> str:
    """What `front.bare` prints of a model's decoder."""
    name = model.tensors("DECODER", "inputs")[0][0]
    command = [sys.executable, "-m", "front.bare", str(model.graph("DECODER")), name, str(model.latent_dim)]
    return output_of(core, [*command, str(seconds), *map(str, batches)])
