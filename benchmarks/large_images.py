"""Decode through the server beside onnxruntime by itself, for models of large images: images a second, and memory.

    python benchmarks/large_images.py --repository models --model kl --images 1 4

All are processes of their own with as many threads, and take turns: one computes while the others wait. onnxruntime
runs the same graph for the same output, the images of a call one by one in one process, and all in one run in
another. Times are told by the clock and in processor time, which other work on the machine changes less. Memory is
what a process had at most (VmHWM).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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


@dataclass(frozen=True)
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
    """onnxruntime in a process of its own, for so many images a run."""

    def __init__(self, process: subprocess.Popen[str], at_a_time: int) -> None:
        self.process = process
        self.at_a_time = at_a_time

    def draw(self, images: int) -> None:
        """Have it draw so many images."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{images} {self.at_a_time}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "drawn\n", "onnxruntime's process has ended"


@contextmanager
def bare(graph: Path, threads: int, at_a_time: int) -> Iterator[Bare]:
    """Open the graph in a process, which ends with the block."""
    command = [sys.executable, __file__, "--bare", str(graph), "--threads", str(threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Bare(process, at_a_time)
    finally:
        process.kill()
        process.wait()


def told(images: int, served: Sequence[Cost], plain: Sequence[Cost]) -> str:
    """Images a second of the server and of onnxruntime, and the medians of the rounds' ratios."""
    rates = [images / statistics.median(cost.elapsed for cost in costs) for costs in (served, plain)]
    pairs = list(zip(served, plain, strict=True))
    clock = spread([other.elapsed / one.elapsed for one, other in pairs])
    processor = spread([other.processor / one.processor for one, other in pairs])
    return f"{rates[0]:.3f} and {rates[1]:.3f} images/s, {clock}; in processor time {processor}"


def spread(ratios: Sequence[float]) -> str:
    """The median, and the least and the most."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def most_mib(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def compare(options: argparse.Namespace) -> None:
    """Print a line for each number of images a call and of onnxruntime's images a run, and one for each process."""
    (graph,) = sorted((options.repository / options.model).glob("*/decoder.onnx"))[-1:]
    flags = ("--cpu-threads", str(options.threads), "--load-timeout", str(_SECONDS))
    with ExitStack() as stack:
        server = stack.enter_context(serving(options.repository, *flags))
        client = stack.enter_context(Client(f"127.0.0.1:{server.port}", timeout=_SECONDS))
        ways = [stack.enter_context(bare(graph, options.threads, n)) for n in sorted({1, *options.images})]
        dim = client.model(options.model).latent_dim
        for images in options.images:
            latents = np.random.default_rng(1).standard_normal((images, dim), dtype=np.float32)
            call = partial(client.decode, options.model, latents, format="uint8")
            tried = [way for way in ways if way.at_a_time in (1, images)]
            works: list[tuple[int, Callable[[], object]]] = [(server.process.pid, call)]
            works += [(way.process.pid, partial(way.draw, images)) for way in tried]
            rounds = [[cost_of(pid, work) for pid, work in works] for _ in range(options.rounds + 1)][1:]
            served, *others = zip(*rounds, strict=True)
            for way, plain in zip(tried, others, strict=True):
                print(f"{images} a call, {way.at_a_time} a run: {told(images, served, plain)}", flush=True)
        print(f"memory at most: {most_mib(server.process.pid):,.0f} MiB")
        for way in ways:
            print(f"onnxruntime, {way.at_a_time} a run: {most_mib(way.process.pid):,.0f} MiB")


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
