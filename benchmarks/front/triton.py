"""Triton, started as its documentation recommends, over the graphs of a repository of bundles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from front.models import Model
from front.peers import MAX_BATCH_ROWS, Peer, serving
from front.processes import BenchError, command_of, free_port, installed
from latentserve.oip import inference_pb2, inference_pb2_grpc

DATA_TYPES = {"FLOAT32": "TYPE_FP32", "UINT8": "TYPE_UINT8"}
NATS = ("reconstruction_error", "kl", "elbo")


@contextmanager
def triton(core: int, environment: Path, models: Sequence[Model]) -> Iterator[Peer]:
    """Triton's server with its Python backend over onnxruntime.

    Decoders are `NAME`; where there is an encoder, `NAME.encoder`, `NAME.reconstruct` and `NAME.score` are, too.
    """
    home = _home(environment)
    with tempfile.TemporaryDirectory(prefix="latentserve-bench-") as folder:
        backends, repository = Path(folder, "backends"), Path(folder, "models")
        _link_backend(home, environment, backends / "python")
        for model in models:
            _write_models(repository, model)
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
        with serving("triton", core, command, port, ready, _env(environment)) as peer:
            yield peer


def triton_versions(environment: Path) -> dict[str, str]:
    """Versions of the packages in Triton's environment. Raises BenchError where it cannot be used."""
    _home(environment)
    return installed(environment, ("nvidia-pytriton", "onnxruntime", "numpy"))


def ready(channel: grpc.Channel) -> bool:
    """Whether a server of the Open Inference Protocol says so."""
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    return bool(stub.ServerReady(inference_pb2.ServerReadyRequest(), timeout=1).ready)


def _home(environment: Path) -> Path:
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


def _env(environment: Path) -> dict[str, str]:
    """The stub finds its packages by the `python3` that comes first in PATH, whatever Python's own variables say."""
    program = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    libraries = subprocess.run(
        [environment / "bin" / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = f"{environment.resolve() / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "LD_LIBRARY_PATH": libraries}


def _write_models(repository: Path, model: Model) -> None:
    latent, images = _taken(model, "DECODER", "TYPE_FP32"), _given(model, "DECODER", ("image_uint8",))
    decoder = {"decoder": model.graph("DECODER")}
    _write(repository, model.name, "decoder", latent, images, decoder)
    if model.has("ENCODER"):
        pixels, posterior = (
            _taken(model, "ENCODER", "TYPE_UINT8"),
            _given(model, "ENCODER", ("mean", "log_variance")),
        )
        encoder = {"encoder": model.graph("ENCODER")}
        _write(repository, f"{model.name}.encoder", "encoder", pixels, posterior, encoder)
        _write(repository, f"{model.name}.reconstruct", "reconstruct", pixels, images, encoder | decoder)
        nats = [_tensor(name, "TYPE_FP32", [1]) for name in NATS]
        _write(repository, f"{model.name}.score", "score", pixels, nats, encoder | decoder)


def _taken(model: Model, role: str, data_type: str) -> str:
    (name, _, shape), *_ = model.tensors(role, "inputs")
    return _tensor(name, data_type, shape)


def _given(model: Model, role: str, outputs: Sequence[str]) -> list[str]:
    found = {name: _tensor(name, DATA_TYPES[kind], shape) for name, kind, shape in model.tensors(role, "outputs")}
    return [found[name] for name in outputs]


def _write(repository: Path, name: str, task: str, taken: str, given: Sequence[str], graphs: dict[str, Path]) -> None:
    """Dynamic batching with its defaults is what Triton's documentation begins with: largest batches, no delay."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("triton_model.py"), folder / "1" / "model.py")
    parameters = "".join(
        f'parameters: {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'
        for key, value in ({"task": task} | graphs).items()
    )
    (folder / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {MAX_BATCH_ROWS}\ndynamic_batching {{ }}\n'
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        f"input [ {taken} ]\noutput [ {', '.join(given)} ]\n{parameters}"
    )


def _tensor(name: str, data_type: str, dims: Sequence[int]) -> str:
    return f'{{ name: "{name}" data_type: {data_type} dims: {list(dims)} }}'
