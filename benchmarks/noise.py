"""The cost of reproducible noise beside numpy's own generators, in pairs: `python benchmarks/noise.py`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from latentserve_server.latent.noise import NoiseSource, Stream

ROWS, DIM = 256, 100
ROUNDS, REPEATS = 500, 4


def main() -> None:
    """Print each generator's median time and the median ratio of ours to it."""
    source = NoiseSource()
    ours: Callable[[], object] = lambda: source.draw(7, 0, ROWS, DIM, Stream.PRIOR)  # noqa: E731
    shape, narrow = (ROWS, DIM), np.float32
    others: dict[str, Callable[[], object]] = {
        "numpy default_rng (PCG64), float64": lambda: np.random.default_rng(1).standard_normal(shape),
        "numpy default_rng (PCG64), float32": lambda: np.random.default_rng(1).standard_normal(shape, narrow),
        "numpy Philox, float32": lambda: np.random.Generator(np.random.Philox(1)).standard_normal(
            (ROWS, DIM), np.float32
        ),
        "numpy.random.standard_normal": lambda: np.random.standard_normal(shape),
    }
    print(f"{ROWS} x {DIM} values, median of {ROUNDS} rounds of {REPEATS}, interleaved")
    for name, other in others.items():
        pairs = [(seconds(ours), seconds(other)) for _ in range(ROUNDS)]
        mine, theirs = (statistics.median(times) * 1e6 for times in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:<36} {theirs:7.1f} us   latentserve {mine:7.1f} us   ratio {ratio:.2f}")


def seconds(work: Callable[[], object]) -> float:
    """The time of one call of `work`, over a few."""
    started = time.perf_counter()
    for _ in range(REPEATS):
        work()
    return (time.perf_counter() - started) / REPEATS


if __name__ == "__main__":
    main()
