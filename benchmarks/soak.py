"""Many clients at once, every answer checked against onnxruntime itself, then SIGTERM in the middle of the load.

    python benchmarks/soak.py --repository models --model conv_vae --clients 64 --seconds 30

Prints calls and rows a second, latencies, the server's memory over time, and what became of every call; exits with 1
where an answer was wrong, a call was lost, or a call that the server had accepted failed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from server_process import ServerProcess, serving

from latentserve_client import AsyncClient, CallError, UnavailableError
from latentserve_server.latent.noise import NoiseSource, Stream

SEEDS, ROWS = 8, 512


@dataclass
class Tally:
    """What became of the calls."""

    answered: int = 0
    rows: int = 0
    wrong: int = 0
    refused: int = 0
    left_waiting: int = 0
    """For a connection, until their deadline."""
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)


class Truth:
    """The right answers, computed by onnxruntime without the server."""

    def __init__(self, bundle: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        decoder, self.encoder = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) if path.exists() else None
            for path in (bundle / "decoder.onnx", bundle / "encoder.onnx")
        )
        assert decoder is not None
        dim = decoder.get_inputs()[0].shape[1]
        noise = NoiseSource()
        self.latents = [noise.draw(seed, 0, ROWS, dim, Stream.PRIOR) for seed in range(SEEDS)]
        self.images = [decoder.run(["image"], {"latent": rows})[0] for rows in self.latents]
        if self.encoder is not None:
            self.means = [self.encoder.run(["mean"], {"image": rows})[0] for rows in self.images]
            self.reconstructions = [decoder.run(["image"], {"latent": rows})[0] for rows in self.means]


async def client_loop(target: str, model: str, truth: Truth, until: float, tally: Tally, number: int) -> None:
    """One client: random calls of random sizes until the time is up or the server is gone."""
    choice = random.Random(number)
    verbs = ["sample", "decode", *(["encode", "reconstruct"] if truth.encoder else [])]
    async with AsyncClient(target, timeout=60.0) as client:
        while time.monotonic() < until:
            seed, count = choice.randrange(SEEDS), choice.choice((1, 1, 1, 2, 5, 16, 100))
            start = choice.randrange(ROWS - count)
            rows = slice(start, start + count)
            began = time.monotonic()
            try:
                got, right = await call(client, choice.choice(verbs), model, truth, seed, rows)
            except UnavailableError:
                tally.refused += 1
                return
            except CallError as error:
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.answered:
                    tally.left_waiting += 1
                    return
                tally.failed[error.code.name] += 1
                return
            tally.seconds.append(time.monotonic() - began)
            tally.answered += 1
            tally.rows += count
            tally.wrong += not np.array_equal(got, right)


async def call(
    client: AsyncClient, verb: str, model: str, truth: Truth, seed: int, rows: slice
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The server's answer and the right one."""
    if verb == "sample":
        sampled = await client.sample(model, rows.stop - rows.start, seed=seed, first_index=rows.start)
        return sampled.images, truth.images[seed][rows]
    if verb == "decode":
        decoded = await client.decode(model, truth.latents[seed][rows])
        return decoded.images, truth.images[seed][rows]
    if verb == "encode":
        encoded = await client.encode(model, truth.images[seed][rows])
        return encoded.mean, truth.means[seed][rows]
    reconstructed = await client.reconstruct(model, truth.images[seed][rows])
    return reconstructed.images, truth.reconstructions[seed][rows]


async def load(arguments: argparse.Namespace, target: str, truth: Truth, seconds: float) -> Tally:
    """All clients for so many seconds."""
    tally = Tally()
    until = time.monotonic() + seconds
    loops = (client_loop(target, arguments.model, truth, until, tally, number) for number in range(arguments.clients))
    await asyncio.gather(*loops)
    return tally


async def watch_memory(server: ServerProcess, readings: list[float]) -> None:
    """The server's resident memory, in MiB, once a second."""
    while True:
        readings.append(server.resident_mib())
        await asyncio.sleep(1.0)


async def soak(arguments: argparse.Namespace, server: ServerProcess) -> tuple[bool, int]:
    """The steady load, then the load that SIGTERM ends: whether all was well, and the answers received."""
    target = f"127.0.0.1:{server.port}"
    bundle = max((arguments.repository / arguments.model).glob("[0-9]*"), key=lambda path: int(path.name))
    truth = await asyncio.to_thread(Truth, bundle)
    readings: list[float] = []
    watcher = asyncio.create_task(watch_memory(server, readings))
    steady = await load(arguments, target, truth, arguments.seconds)
    watcher.cancel()
    report("steady", steady, arguments.seconds)
    third = max(1, len(readings) // 3)
    print(f"  memory MiB: first {readings[0]:.0f}, after a third {readings[third]:.0f}, last {readings[-1]:.0f}")

    ending = asyncio.create_task(load(arguments, target, truth, 60.0))
    await asyncio.sleep(2.0)
    server.process.send_signal(signal.SIGTERM)
    stopped = await ending
    report("ended by SIGTERM", stopped, 2.0)
    status = await asyncio.to_thread(server.process.wait)
    print(f"  server exit status {status}")
    lost = steady.refused + steady.left_waiting + sum(steady.failed.values()) + sum(stopped.failed.values())
    return not (steady.wrong or stopped.wrong or lost or status), steady.answered + stopped.answered


def report(name: str, tally: Tally, seconds: float) -> None:
    """Print what became of the calls."""
    ordered = sorted(tally.seconds)
    p50, p99 = (1e3 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    print(f"{name}: {tally.answered} calls, {tally.rows} rows answered, {tally.wrong} wrong")
    print(f"  {tally.answered / seconds:.0f} calls/s, {tally.rows / seconds:.0f} rows/s")
    print(f"  p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {1e3 * ordered[-1]:.1f} ms")
    never = f"refused {tally.refused}, left waiting for a connection {tally.left_waiting}"
    print(f"  never accepted: {never}; failed {dict(tally.failed)}")


def endings(server: ServerProcess) -> collections.Counter[str]:
    """How the calls that the server accepted ended, by status, from its own log."""
    return collections.Counter(record["code"] for record in server.records() if "code" in record)


def main() -> int:
    """Start the server, load it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    with serving(arguments.repository) as server:
        well, answered = asyncio.run(soak(arguments, server))
        ended = endings(server)
    print(f"accepted by the server: {dict(ended)}; answers received: {answered}")
    # While it drains, the server answers UNAVAILABLE to new calls, and has done nothing for them.
    return 0 if well and ended.pop("OK") == answered and ended.keys() <= {"UNAVAILABLE"} else 1


if __name__ == "__main__":
    sys.exit(main())
