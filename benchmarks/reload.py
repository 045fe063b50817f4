"""Reloads under load: failed calls, answers of a mixture, stalls of the server's event loop, memory.

    python benchmarks/reload.py models/vae/1 models/vae/2 --clients 16 --reloads 50

Publishes the two bundles, VAEs of the same shapes, in turn as versions 1, 2, 3, ... of one model, by rename, and has
the server follow through its admin service. Clients never pause and never retry. An answer must be, to the bit, the one
that onnxruntime gives for the bundle of the version that the reply names. A process of its own asks for health every
5 ms, through a connection of its own: what a check takes beyond the usual is a stall of the loop. Exits with 1 where a
call failed or an answer was not right.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from server_process import ServerProcess, serving

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

IMAGES, MAX_ROWS = 64, 8
VAE = pb.ModelRef(name="vae")


class Truth:
    """What a bundle answers, computed by onnxruntime without the server."""

    def __init__(self, bundle: Path, images: NDArray[np.float32]) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        encoder, decoder = (
            onnxruntime.InferenceSession(bundle / f"{role}.onnx", options, providers=["CPUExecutionProvider"])
            for role in ("encoder", "decoder")
        )
        means = encoder.run(["mean"], {"image": images})[0]
        self.reconstructions = decoder.run(["image"], {"latent": means})[0]


@dataclass
class Tally:
    """What became of the calls."""

    versions: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


async def call_on(port: int, images: NDArray[np.float32], truths: list[Truth], tally: Tally, number: int) -> None:
    """One client: reconstructions of random images until it is cancelled."""
    choice = np.random.default_rng(number)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_retries", 0)]) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        while True:
            start = int(choice.integers(IMAGES - MAX_ROWS))
            rows = slice(start, start + int(choice.integers(1, MAX_ROWS + 1)))
            request = pb.ReconstructRequest(model=VAE, images=pb.Images(tensor=from_ndarray(images[rows])))
            began = time.monotonic()
            try:
                reply = await stub.Reconstruct(request)
            except grpc.aio.AioRpcError as error:
                tally.failed[error.code().name] += 1
                continue
            tally.seconds.append(time.monotonic() - began)
            version = reply.served.version
            tally.versions[version] += 1
            right = truths[(version - 1) % 2].reconstructions[rows]
            tally.wrong += not np.array_equal(to_ndarray(reply.images.tensor), right)


def check_health(port: int, pipe: Connection) -> None:
    """Ask for health every 5 ms; at every message on the pipe send the times, in seconds, since the last one."""
    stub: Any = health_pb2_grpc.HealthStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    times: list[float] = []
    while True:
        began = time.monotonic()
        stub.Check(health_pb2.HealthCheckRequest())
        times.append(time.monotonic() - began)
        if pipe.poll(0.005):
            pipe.recv()
            pipe.send(times)
            times = []


def checks_of(pipe: Connection) -> list[float]:
    """The times of the health checks since the last call of this."""
    pipe.send(None)
    times: list[float] = pipe.recv()
    return sorted(times)


def publish(bundle: Path, model: Path, version: int) -> None:
    """Put a copy of the bundle in its place by one rename."""
    staged = model / f".staging-{version}"
    shutil.copytree(bundle, staged)
    staged.rename(model / str(version))


async def reload(arguments: argparse.Namespace, model: Path, server: ServerProcess, pipe: Connection) -> bool:
    """The load without reloads, the reloads under load, the end; whether every call was answered rightly."""
    shape = onnxruntime.InferenceSession(arguments.bundles[0] / "encoder.onnx").get_inputs()[0].shape[1:]
    images = np.random.default_rng(0).random((IMAGES, *shape), np.float32)
    truths = [Truth(bundle, images) for bundle in arguments.bundles]
    tally = Tally()
    clients = [
        asyncio.create_task(call_on(server.port, images, truths, tally, number)) for number in range(arguments.clients)
    ]
    checks_of(pipe)
    await asyncio.sleep(arguments.seconds)
    report("no reloads", checks_of(pipe), server.resident_mib())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.admin_port}") as channel:
        admin = models_pb2_grpc.ModelAdminServiceStub(channel)
        began = time.monotonic()
        for number in range(1, arguments.reloads + 1):
            version = number + 1
            await asyncio.to_thread(publish, arguments.bundles[number % 2], model, version)
            await admin.Rescan(models_pb2.RescanRequest())
            await admin.Unload(models_pb2.UnloadRequest(name="vae", version=number))  # returns once it is closed
            shutil.rmtree(model / str(number))
            if number in (1, 10, arguments.reloads):
                report(f"until reload {number}", checks_of(pipe), server.resident_mib())
        seconds = time.monotonic() - began
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await asyncio.sleep(1.0)
    print(f"memory without load {server.resident_mib():.0f} MiB")
    ordered = sorted(tally.seconds)
    p50, p99 = (1e3 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    print(f"{arguments.reloads} reloads in {seconds:.1f} s; answers by {len(tally.versions)} versions")
    print(f"{len(ordered)} calls answered, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {1e3 * ordered[-1]:.1f} ms")
    print(f"failed {dict(tally.failed)}, answers that are not the named version's {tally.wrong}")
    return not tally.failed and not tally.wrong and len(tally.versions) == arguments.reloads + 1


def report(name: str, checks: list[float], mib: float) -> None:
    """Print how long health checks took, and the memory."""
    p50, p99 = (1e3 * checks[int(len(checks) * share)] for share in (0.5, 0.99))
    times = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {1e3 * checks[-1]:.1f} ms"
    print(f"{name}: memory {mib:.0f} MiB; {len(checks)} health checks, {times}")


def main() -> int:
    """Start the server, change what it serves, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs=2, help="directories of two bundles")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0, help="load before the first reload")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "vae"
        model.mkdir()
        publish(arguments.bundles[0], model, 1)
        with serving(model.parent, "--admin-listen=127.0.0.1:0", "--access-log=false") as server:
            pipe, theirs = multiprocessing.Pipe()
            spawn = multiprocessing.get_context("spawn")
            checker = spawn.Process(target=check_health, args=(server.port, theirs), daemon=True)
            checker.start()
            try:
                return 0 if asyncio.run(reload(arguments, model, server, pipe)) else 1
            finally:
                checker.kill()  # while the server still answers it
                checker.join()


if __name__ == "__main__":
    sys.exit(main())
