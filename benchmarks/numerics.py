"""What portable numerics cost on the CPU, and how far they are from fast ones.

    python benchmarks/numerics.py --repository models

Runs the decoder of every model's version 1 with both, in turn, on one row and on 64.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from latentserve.v1 import bundle_pb2
from latentserve_server.available_cpus import available_cpus
from latentserve_server.bundle.bundle import read_bundle
from latentserve_server.engine import Cpu, Engine

ROUNDS = 41
ROWS = (1, 64)


def main() -> int:
    """Measure every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=available_cpus())
    given = parser.parse_args()
    for model in sorted(path.parent.name for path in given.repository.glob("*/1")):
        measure(model, given.repository / model / "1", given.threads)
    return 0


def measure(name: str, directory: Path, threads: int) -> None:
    """Print the times of a model's decoder, and how many floats of an image differ."""
    bundle = read_bundle(directory)
    graph = bundle.graphs[bundle_pb2.GRAPH_ROLE_DECODER]
    engines = [Engine(graph, Cpu(threads=threads, portable=portable)) for portable in (False, True)]
    for rows in ROWS:
        latents = np.random.default_rng(0).standard_normal((rows, bundle.manifest.latent.dim), dtype=np.float32)
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for times, engine in zip(seconds, engines, strict=True):
                began = time.perf_counter()
                engine.run({"latent": latents}, ["image"])
                times.append(time.perf_counter() - began)
        fast, portable = (1e3 * statistics.median(times) for times in seconds)
        one, other = (engine.run({"latent": latents}, ["image"])["image"] for engine in engines)
        print(
            f"{name}, rows {rows}, threads {threads}: fast {fast:.2f} ms, portable {portable:.2f} ms, "
            f"ratio {portable / fast:.2f}; {100 * np.mean(one != other):.0f} % of floats differ"
        )


if __name__ == "__main__":
    sys.exit(main())
