"""What is measured: a server that answers; this one, and one that does nothing."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from front.models import Model
from front.processes import BenchError, free_port, output_of, running
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


@dataclass(frozen=True)
class Peer:
    """A server that answers."""

    name: str
    pid: int
    port: int
    seconds_to_serving: float
    """From the start of its process until it said that it serves."""
    certificate: bytes | None = None
    """PEM, of a server that speaks TLS; a caller who trusts it needs no more."""
    token: str = ""
    """What a server that asks for tokens is told."""

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What calls to it carry."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def answered(self) -> int:
        """Calls that it has answered since it started, by its own statistics of all models; failures do not count."""
        with self.channel() as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            reply = stub.ModelStatistics(
                inference_pb2.ModelStatisticsRequest(), timeout=START_SECONDS, metadata=self.metadata
            )
        return sum(model.inference_stats.success.count for model in reply.model_stats)

    def channel(self, options: Sequence[tuple[str, int]] = ()) -> grpc.Channel:
        """A new channel to it."""
        return _channel(self.port, self.certificate, options)


@contextmanager
def latentserve(
    core: int | Sequence[int], repository: Path, *options: str, certificate: bytes | None = None, token: str = ""
) -> Iterator[Peer]:
    """This checkout's server over the repository; with the certificate and a token of its options' files, if any."""
    port = free_port()
    command = [sys.executable, "-c", SERVER, "--repository", str(repository), f"--listen=127.0.0.1:{port}"]
    command += [*SERVER_OPTIONS, *options]
    with serving("latentserve", core, command, port, _healthy, _installed(), certificate) as peer:
        yield replace(peer, token=token)


def _installed() -> dict[str, str]:
    """An environment in which modules keep their bytecode, as an installed server's do."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def empty(core: int, size: int) -> Iterator[Peer]:
    """A grpc.aio server that answers every call with `size` bytes."""
    port = free_port()
    command = [sys.executable, "-m", "front.empty_server", str(port), str(size)]
    with serving("empty", core, command, port, lambda channel: True) as peer:
        yield peer


@contextmanager
def serving(
    name: str,
    core: int | Sequence[int],
    command: Sequence[str],
    port: int,
    ready: Callable[[grpc.Channel], bool],
    env: dict[str, str] | None = None,
    certificate: bytes | None = None,
) -> Iterator[Peer]:
    """A server in a process of its own, once it is ready. Raises BenchError with its last line where it never is."""
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        with running(core, command, log, env) as process:
            while not _answers(port, ready, certificate):
                if process.poll() is not None or time.perf_counter() > began + START_SECONDS:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                    raise BenchError(f"{name} does not serve: {lines[-1]}")
                time.sleep(POLL_SECONDS)
            yield Peer(name, process.pid, port, time.perf_counter() - began, certificate)


def _answers(port: int, ready: Callable[[grpc.Channel], bool], certificate: bytes | None) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        with _channel(port, certificate) as channel:
            return ready(channel)
    except (OSError, grpc.RpcError):
        return False


def _channel(port: int, certificate: bytes | None, options: Sequence[tuple[str, int]] = ()) -> grpc.Channel:
    target = f"127.0.0.1:{port}"
    if certificate is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate), options)


def _healthy(channel: grpc.Channel) -> bool:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    reply = check(health_pb2.HealthCheckRequest(), timeout=1)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def bare_rows_per_second(core: int, model: Model, seconds: float, batches: Sequence[int]) -> str:
    """What `front.bare` prints of a model's decoder."""
    name = model.tensors("DECODER", "inputs")[0][0]
    command = [sys.executable, "-m", "front.bare", str(model.graph("DECODER")), name, str(model.latent_dim)]
    return output_of(core, [*command, str(seconds), *map(str, batches)])
