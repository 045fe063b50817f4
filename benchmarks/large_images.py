"""Decode through the server beside onnxruntime by itself, for models of large images: images a second, and memory.

    python benchmarks/large_images.py --repository models --model kl --images 1 4

Both are processes of their own with as many threads, and take turns: one computes while the other waits. onnxruntime
runs the same graph for the same output, all images of a call in one run or one by one; the faster way counts. Memory
is what a process had at most (VmHWM).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from server_process import serving

from latentserve_client import Client

_OUTPUT = "image_uint8"


def seconds_of(session: onnxruntime.InferenceSession, images: int, at_a_time: int) -> float:
    """What onnxruntime takes for so many images, so many in each run."""
    (spec,) = session.get_inputs()
    latents = np.random.default_rng(0).standard_normal((images, *spec.shape[1:]), dtype=np.float32)
    began = time.perf_counter()
    for start in range(0, images, at_a_time):
        session.run([_OUTPUT], {spec.name: latents[start : start + at_a_time]})
    return time.perf_counter() - began


def answer(graph: Path, threads: int) -> None:
    """Time runs as they are asked for on standard input, images and images a run on each line."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    for line in sys.stdin:
        images, at_a_time = map(int, line.split())
        print(seconds_of(session, images, at_a_time), flush=True)


class Bare:
    """onnxruntime in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def seconds(self, images: int) -> float:
        """The time for so many images, by the faster way."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        found = []
        for at_a_time in {1, images}:
            self.process.stdin.write(f"{images} {at_a_time}\n")
            self.process.stdin.flush()
            found.append(float(self.process.stdout.readline()))
        return min(found)


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


def most_mib(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def compare(options: argparse.Namespace) -> None:
    """Print a line for each number of images a call, and one for memory."""
    (graph,) = sorted((options.repository / options.model).glob("*/decoder.onnx"))[-1:]
    threads = ("--cpu-threads", str(options.threads))
    with serving(options.repository, *threads) as server, bare(graph, options.threads) as alone:
        with Client(f"127.0.0.1:{server.port}", timeout=600) as client:
            dim = client.model(options.model).latent_dim
            for images in options.images:
                latents = np.random.default_rng(1).standard_normal((images, dim), dtype=np.float32)
                served, plain = [], []
                for _ in range(options.rounds + 1):
                    began = time.perf_counter()
                    client.decode(options.model, latents, format="uint8")
                    served.append(time.perf_counter() - began)
                    plain.append(alone.seconds(images))
                ratios = [one / other for one, other in zip(plain[1:], served[1:], strict=True)]
                told = f"{images / statistics.median(served[1:]):.3f} images/s, onnxruntime "
                told += f"{images / statistics.median(plain[1:]):.3f}: {statistics.median(ratios):.3f}"
                print(f"{images} a call: {told} ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
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
