"""Decode through the server beside onnxruntime by itself, for models of large images: images a second, and memory.

    python benchmarks/large_images.py --repository models --model kl --images 1 4

Both are processes of their own with as many threads, and take turns: one computes while the other waits. onnxruntime
runs the same graph for the same output, all images of a call in one run or one by one; the faster way counts. Times are
told by the clock and in processor time, which other work on the machine changes little. Memory is what a process had
at most (VmHWM).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from server_process import serving

from latentserve_client import Client

_OUTPUT = "image_uint8"
_SECONDS = 3600
"""What the load and a call take at most: both compute many large images, beside other work."""


@dataclass(frozen=True, order=True)
class Cost:
    """What images took, in seconds."""

    elapsed: float
    processor: float


def cost_of(pid: int, work: Callable[[], object]) -> Cost:
    """What the work takes by the clock, and what the process takes of processors meanwhile."""
    began, used = time.perf_counter(), processor_seconds(pid)
    work()
    return Cost(time.perf_counter() - began, processor_seconds(pid) - used)


def processor_seconds(pid: int) -> float:
    """The processor time of all threads of a process so far, by Linux's clock of that process (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def draw(session: onnxruntime.InferenceSession, images: int, at_a_time: int) -> None:
    """Have onnxruntime draw so many images, so many in each run."""
    (spec,) = session.get_inputs()
    latents = np.random.default_rng(0).standard_normal((images, *spec.shape[1:]), dtype=np.float32)
    for start in range(0, images, at_a_time):
        session.run([_OUTPUT], {spec.name: latents[start : start + at_a_time]})


def answer(graph: Path, threads: int) -> None:
    """Draw as is asked for on standard input, images and images a run on each line."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    for line in sys.stdin:
        images, at_a_time = map(int, line.split())
        draw(session, images, at_a_time)
        print("drawn", flush=True)


class Bare:
    """onnxruntime in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def cost(self, images: int) -> Cost:
        """What so many images take, by the faster way."""
        return min(cost_of(self.process.pid, partial(self._draw, images, n)) for n in {1, images})

    def _draw(self, images: int, at_a_time: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{images} {at_a_time}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "drawn\n", "onnxruntime's process has ended"


@contextmanager
def bare(graph: Path, threads: int) -> Iterator[Bare]:
    """Open the graph in a process, which ends with the block."""
    command = [sys.executable, __file__, "--bare", str(graph), "--threads", str(threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Bare(process)
    finally:
        process.kill()
        process.wait()


def compared(images: int, seconds: Sequence[tuple[float, float]]) -> str:
    """The images a second of the server and of onnxruntime, and the median of their ratios, from pairs of seconds."""
    rates = [images / statistics.median(side) for side in zip(*seconds, strict=True)]
    ratios = [plain / served for served, plain in seconds]
    spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return f"{rates[0]:.4f} images/s, onnxruntime {rates[1]:.4f}: {spread}"


def most_mib(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def compare(options: argparse.Namespace) -> None:
    """Print two lines for each number of images a call, and one for memory."""
    (graph,) = sorted((options.repository / options.model).glob("*/decoder.onnx"))[-1:]
    flags = ("--cpu-threads", str(options.threads), "--load-timeout", str(_SECONDS))
    with serving(options.repository, *flags) as server, bare(graph, options.threads) as alone:
        with Client(f"127.0.0.1:{server.port}", timeout=_SECONDS) as client:
            dim = client.model(options.model).latent_dim
            for images in options.images:
                latents = np.random.default_rng(1).standard_normal((images, dim), dtype=np.float32)
                call = partial(client.decode, options.model, latents, format="uint8")
                rounds = [(cost_of(server.process.pid, call), alone.cost(images)) for _ in range(options.rounds + 1)][
                    1:
                ]
                elapsed = [(served.elapsed, plain.elapsed) for served, plain in rounds]
                processor = [(served.processor, plain.processor) for served, plain in rounds]
                print(f"{images} a call: {compared(images, elapsed)}", flush=True)
                print(f"{images} a call, processor time: {compared(images, processor)}", flush=True)
        ours, theirs = most_mib(server.process.pid), most_mib(alone.process.pid)
        print(f"memory at most: {ours:,.0f} MiB, onnxruntime {theirs:,.0f}: {ours / theirs:.2f}")


def main() -> None:
    """Compare, or be what is compared with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        answer(options.bare, options.threads)
    elif not (options.repository and options.model):
        parser.error("give --repository and --model")
    else:
        compare(options)


if __name__ == "__main__":
    main()
