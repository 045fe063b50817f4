"""What callers of one model feel while another model on the same device is kept busy.

    python benchmarks/sharing.py --repository models --light mlp_gan --heavy conv_vae

One caller after another asks the light model for single images, alone and beside a caller who asks the heavy model for
thousands at a time; with one run on the device at a time, which the models share fairly, and without a bound. The two
servers take turns, round by round, so that the machine's other work falls on both.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from scheduling import large_calls, quantiles, single_calls
from server_process import serving

ROUNDS = 5


@dataclass
class Felt:
    """What the callers of one server felt, over all rounds."""

    seconds: float = 0.0
    alone_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def report(self, name: str) -> str:
        """One line for each of the models."""
        (alone, alone99), (beside, beside99) = quantiles(self.alone_ms), quantiles(self.beside_ms)
        return (
            f"{name}\n"
            f"  light model alone: p50 {alone:.1f} ms, p99 {alone99:.1f} ms\n"
            f"  light model beside: {len(self.beside_ms)} calls, p50 {beside:.1f} ms, p99 {beside99:.1f} ms, "
            f"p99 by p99 alone {beside99 / alone99:.2f}\n"
            f"  heavy model beside: {sum(self.images) / self.seconds:.0f} images/s"
        )


async def feel(target: str, light: str, heavy: str, seconds: float, count: int, felt: Felt) -> None:
    """One round."""
    await single_calls(target, light, time.monotonic() + seconds, felt.alone_ms)
    began = time.monotonic()
    await asyncio.gather(
        single_calls(target, light, began + seconds, felt.beside_ms),
        large_calls(target, heavy, began + seconds, felt.images, count),
    )
    felt.seconds += time.monotonic() - began


def measure(repository: Path, light: str, heavy: str, seconds: float, count: int, bounds: Sequence[int]) -> list[Felt]:
    """A server for each bound on concurrent runs, all measured in turn."""
    felt = [Felt() for _ in bounds]
    with ExitStack() as stack:
        options = [("--access-log=false", f"--concurrent-runs={bound}") for bound in bounds]
        servers = [stack.enter_context(serving(repository, *one)) for one in options]
        for _ in range(ROUNDS):
            for server, one in zip(servers, felt, strict=True):
                asyncio.run(feel(f"127.0.0.1:{server.port}", light, heavy, seconds / ROUNDS, count, one))
    return felt


def main() -> int:
    """Start the servers and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--light", required=True)
    parser.add_argument("--heavy", required=True)
    parser.add_argument("--seconds", type=float, default=20.0, help="For each of the two situations and bounds.")
    parser.add_argument("--count", type=int, default=1024, help="Images of a call of the heavy model.")
    arguments = parser.parse_args()
    given = arguments.repository, arguments.light, arguments.heavy, arguments.seconds, arguments.count
    one, many = measure(*given, (1, 0))
    print(one.report("one run at a time"))
    print(many.report("the server's default: on the CPU, as many runs as there are models"))
    p99 = [quantiles(felt.beside_ms)[1] for felt in (one, many)]
    rates = [sum(felt.images) / felt.seconds for felt in (one, many)]
    print(f"one at a time by default: light p99 {p99[0] / p99[1]:.2f}, heavy images/s {rates[0] / rates[1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
