"""Whether it pays on the CPU to fill batches up to a power of two rows.

    python benchmarks/padding.py --repository models --model conv_vae

Runs the decoder on batches of 1 to 64 rows, as they are and padded, in turn.
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

BATCHES = 30
ROUNDS = 7
MAX_ROWS = 64


def main() -> int:
    """Measure both and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True, help="Its version 1 is measured.")
    given = parser.parse_args()
    bundle = read_bundle(given.repository / given.model / "1")
    engine = Engine(bundle.graphs[bundle_pb2.GRAPH_ROLE_DECODER], Cpu(threads=available_cpus()))
    random = np.random.default_rng(0)
    sizes = random.integers(1, MAX_ROWS + 1, BATCHES).tolist()
    buckets = [1 << (rows - 1).bit_length() for rows in sizes]
    latents = [random.standard_normal((rows, bundle.manifest.latent.dim), dtype=np.float32) for rows in buckets]
    seconds: dict[str, list[float]] = {"as they are": [], "padded": []}
    for _ in range(ROUNDS):
        for times, rows in zip(seconds.values(), (sizes, buckets), strict=True):
            began = time.perf_counter()
            for batch, latent in zip(rows, latents, strict=True):
                engine.run({"latent": latent[:batch]}, ["image"])
            times.append(time.perf_counter() - began)
    plain, padded = (statistics.median(times) for times in seconds.values())
    print(f"{given.model}: {sum(sizes)} rows in {BATCHES} batches, {sum(buckets)} padded")
    print(f"  as they are {1e3 * plain:.0f} ms, padded {1e3 * padded:.0f} ms, ratio {padded / plain:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
