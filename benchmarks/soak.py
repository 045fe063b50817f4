"""Many clients at once, every answer checked against onnxruntime itself, then SIGTERM in the middle of the load.

    python benchmarks/soak.py --repository models --model conv_vae --clients 64 --seconds 30

Some callers are impatient: they cancel after some milliseconds, or have a deadline then. Meanwhile the bundle is
published again and again as the next version, and the server follows. Prints calls and rows a second, latencies, the
server's memory over time, and what became of every call; exits with 1 where an answer was wrong, a call was lost, or a
call that the server had accepted failed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
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
PATIENCE_SECONDS = 0.001, 0.2
"""Of the impatient: what is answered within depends on the load."""
IMPATIENT = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
"""What a call with a short deadline may get: the deadline passes, or the server sees that it would."""


@dataclass
class Tally:
    """What became of the calls."""

    answered: int = 0
    rows: int = 0
    wrong: int = 0
    refused: int = 0
    left_waiting: int = 0
    """For a connection, until their deadline."""
    given_up: int = 0
    """By impatient callers, unanswered or unread."""
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What to do to the server, and for how long."""

    repository: Path
    model: str
    clients: int
    seconds: float
    impatient: float
    """Share of the calls that are given up after a time within `PATIENCE_SECONDS`."""
    reload: float
    """Seconds from version to version; 0 for no other version."""


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


async def client_loop(target: str, options: Options, truth: Truth, until: float, tally: Tally, number: int) -> None:
    """One client: random calls of random sizes until the time is up or the server is gone."""
    choice = random.Random(number)
    verbs = ["sample", "decode", *(["encode", "reconstruct"] if truth.encoder else [])]
    async with AsyncClient(target, timeout=60.0) as client:
        while time.monotonic() < until:
            seed, count = choice.randrange(SEEDS), choice.choice((1, 1, 1, 2, 5, 16, 100))
            start = choice.randrange(ROWS - count)
            rows, verb = slice(start, start + count), choice.choice(verbs)
            patience = choice.uniform(*PATIENCE_SECONDS) if choice.random() < options.impatient else None
            cancels = patience is not None and choice.random() < 0.5
            began = time.monotonic()
            try:
                async with asyncio.timeout(patience if cancels else None):
                    asked = call(client, verb, options.model, truth, seed, rows, None if cancels else patience)
                    got, right = await asked
            except TimeoutError:
                tally.given_up += 1
                continue
            except UnavailableError:
                tally.refused += 1
                return
            except CallError as error:
                if patience is not None and error.code in IMPATIENT:
                    tally.given_up += 1
                    continue
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.answered:
                    tally.left_waiting += 1
                else:
                    tally.failed[error.code.name] += 1
                return
            tally.seconds.append(time.monotonic() - began)
            tally.answered += 1
            tally.rows += count
            tally.wrong += not np.array_equal(got, right)


async def call(
    client: AsyncClient, verb: str, model: str, truth: Truth, seed: int, rows: slice, patience: float | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The server's answer and the right one."""
    if verb == "sample":
        count, first = rows.stop - rows.start, rows.start
        sampled = await client.sample(model, count, seed=seed, first_index=first, timeout=patience)
        return sampled.images, truth.images[seed][rows]
    if verb == "decode":
        decoded = await client.decode(model, truth.latents[seed][rows], timeout=patience)
        return decoded.images, truth.images[seed][rows]
    if verb == "encode":
        encoded = await client.encode(model, truth.images[seed][rows], timeout=patience)
        assert encoded.mean is not None
        return encoded.mean, truth.means[seed][rows]
    reconstructed = await client.reconstruct(model, truth.images[seed][rows], timeout=patience)
    return reconstructed.images, truth.reconstructions[seed][rows]


async def load(options: Options, target: str, truth: Truth, seconds: float) -> Tally:
    """All clients for so many seconds."""
    tally = Tally()
    until = time.monotonic() + seconds
    loops = (client_loop(target, options, truth, until, tally, number) for number in range(options.clients))
    await asyncio.gather(*loops)
    return tally


async def publish_again(bundle: Path, seconds: float) -> None:
    """A bundle once more, as the next version, every so many seconds; the one before the last goes."""
    model, version = bundle.parent, int(bundle.name)
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(shutil.copytree, model / str(version), model / ".next")
        version += 1
        (model / ".next").rename(model / str(version))
        if (old := model / str(version - 2)).exists():
            old.rename(model / ".old")
            await asyncio.to_thread(shutil.rmtree, model / ".old")


async def watch_memory(server: ServerProcess, readings: list[float]) -> None:
    """The server's resident memory, in MiB, once a second."""
    while True:
        readings.append(server.resident_mib())
        await asyncio.sleep(1.0)


async def soak(options: Options, server: ServerProcess) -> tuple[bool, Tally]:
    """The steady load, then the load that SIGTERM ends: whether all was well, and what became of all calls."""
    target = f"127.0.0.1:{server.port}"
    bundle = max((options.repository / options.model).glob("[0-9]*"), key=lambda path: int(path.name))
    truth = await asyncio.to_thread(Truth, bundle)
    readings: list[float] = []
    beside = [asyncio.create_task(watch_memory(server, readings))]
    if options.reload:
        beside.append(asyncio.create_task(publish_again(bundle, options.reload)))
    steady = await load(options, target, truth, options.seconds)
    beside[0].cancel()
    report("steady", steady, options.seconds)
    third = max(1, len(readings) // 3)
    print(f"  memory MiB: first {readings[0]:.0f}, after a third {readings[third]:.0f}, last {readings[-1]:.0f}")

    ending = asyncio.create_task(load(options, target, truth, 60.0))
    await asyncio.sleep(2.0)
    server.process.send_signal(signal.SIGTERM)
    stopped = await ending
    report("ended by SIGTERM", stopped, 2.0)
    status = await asyncio.to_thread(server.process.wait)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    print(f"  server exit status {status}")
    lost = steady.refused + steady.left_waiting + sum(steady.failed.values()) + sum(stopped.failed.values())
    both = Tally(answered=steady.answered + stopped.answered, given_up=steady.given_up + stopped.given_up)
    return not (steady.wrong or stopped.wrong or lost or status), both


def report(name: str, tally: Tally, seconds: float) -> None:
    """Print what became of the calls."""
    ordered = sorted(tally.seconds)
    p50, p99 = (1e3 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    print(f"{name}: {tally.answered} calls, {tally.rows} rows answered, {tally.wrong} wrong")
    print(f"  {tally.answered / seconds:.0f} calls/s, {tally.rows / seconds:.0f} rows/s")
    print(f"  p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {1e3 * ordered[-1]:.1f} ms")
    never = f"refused {tally.refused}, left waiting for a connection {tally.left_waiting}"
    print(f"  never accepted: {never}; given up by their callers {tally.given_up}; failed {dict(tally.failed)}")


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
    parser.add_argument("--impatient", type=float, default=0.1, help="Share of the calls that are soon given up.")
    parser.add_argument("--reload", type=float, default=5.0, help="Seconds from version to version; 0: no other one.")
    options = Options(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(options.repository / options.model, Path(copy) / options.model)
        options = replace(options, repository=Path(copy))
        with serving(options.repository, "--poll-interval=1") as server:
            well, calls = asyncio.run(soak(options, server))
            ended, loads = endings(server), sum("is ready" in record["message"] for record in server.records())
    print(f"versions loaded: {loads}")
    print(f"accepted by the server: {dict(ended)}; answers received: {calls.answered}")
    # What a caller has given up may have been answered. While it drains, the server answers UNAVAILABLE to new calls,
    # and has done nothing for them.
    unread = ended.pop("OK") - calls.answered
    expected = {"UNAVAILABLE", "CANCELLED", *(code.name for code in IMPATIENT)}
    return 0 if well and 0 <= unread <= calls.given_up and ended.keys() <= expected else 1


if __name__ == "__main__":
    sys.exit(main())
