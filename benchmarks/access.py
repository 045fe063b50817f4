"""What it costs to ask who calls: calls of one row a second, with tokens and with limits, against none of them.

    python benchmarks/access.py --repository models --model mlp_gan

Three servers over the same models, on one processor, take turns, round by round, so that the machine's other work
falls on all of them; the callers are on another one. A ratio is the median over the rounds, each of which compares
neighbours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from front.calls import GENERATION, sample_body
from front.closed_loop import run
from front.http2 import Connection, header_block
from front.processes import choose_cores, cpu_seconds
from server_process import ServerProcess, serving

from latentserve_server.access.token_file import write_token_entry
from latentserve_server.access.tokens import make_token

SAMPLE = f"{GENERATION}/Sample"
CONNECTIONS, CALLERS = 8, 64
OTHERS = 100
"""Tokens beside the one that calls."""
GOAL = 0.85
"""Calls a second with tokens, as a share of those without."""
LIMITS = ("--caller-calls-per-second=1e9", "--caller-rows-per-second=1e9", "--caller-rows-in-flight=1000000000")


@dataclass
class Measured:
    """One way to be asked who calls, over all rounds."""

    name: str
    server: ServerProcess
    headers: dict[str, str]
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def measure(self, request: bytes, seconds: float) -> None:
        """One round."""
        target = f"127.0.0.1:{self.server.port}"
        fields = {":method": "POST", ":scheme": "http", ":path": SAMPLE, ":authority": target}
        fields |= {"content-type": "application/grpc", "te": "trailers"} | self.headers
        block = header_block(fields.items())
        made = [Connection("127.0.0.1", self.server.port, block, request) for _ in range(CONNECTIONS)]
        before = cpu_seconds(self.server.process.pid)
        latencies, passed = run(made, CALLERS, seconds)
        self.cpu_us.append(1e6 * (cpu_seconds(self.server.process.pid) - before) / len(latencies))
        self.rates.append(len(latencies) / passed)
        if sum(connection.data_bytes for connection in made) < len(latencies) * len(request):
            raise SystemExit(f"{self.name}: not every call was answered with an image")
        for connection in made:
            connection.socket.close()

    def report(self, against: Measured) -> str:
        """One line."""
        rate, low, high = ratios(self.rates, against.rates)
        cpu, _, _ = ratios(self.cpu_us, against.cpu_us)
        return (
            f"{self.name}: {statistics.median(self.rates):.0f} calls/s, {rate:.3f} ({low:.3f} to {high:.3f}); "
            f"{statistics.median(self.cpu_us):.1f} us of the server's processor a call, {cpu:.3f}"
        )


def ratios(own: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and their quartiles."""
    all_of_them = [one / beside for one, beside in zip(own, other, strict=True)]
    low, middle, high = statistics.quantiles(all_of_them, n=4)
    return middle, low, high


def token_file(folder: Path) -> tuple[Path, str]:
    """A file of tokens, and one of them."""
    tokens = [make_token() for _ in range(OTHERS + 1)]
    entries = [
        write_token_entry({"name": f"caller-{place}", "id": one.id, "sha256": one.digest.hex(), "scopes": ["generate"]})
        for place, one in enumerate(tokens)
    ]
    path = folder / "tokens.yaml"
    path.touch(0o600)
    path.write_text("".join(entries))
    return path, tokens[0].text


def measure(repository: Path, model: str, rounds: int, seconds: float) -> Sequence[Measured]:
    """The servers, measured in turn."""
    request, cores = sample_body(model, 1), choose_cores()
    with ExitStack() as stack:
        tokens, token = token_file(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        bearer, asked = {"authorization": f"Bearer {token}"}, f"--tokens={tokens}"
        os.sched_setaffinity(0, {cores.server})
        measured = [
            Measured(name, stack.enter_context(serving(repository, "--access-log=false", *options)), headers)
            for name, options, headers in (
                ("nobody is asked", (), {}),
                ("tokens", (asked,), bearer),
                ("tokens and limits", (asked, *LIMITS), bearer),
            )
        ]
        os.sched_setaffinity(0, {cores.load})
        for one in measured:
            one.measure(request, seconds)  # to warm up
            one.rates.clear()
            one.cpu_us.clear()
        for turn in range(rounds):
            for one in measured if turn % 2 else reversed(measured):
                one.measure(request, seconds)
    return measured


def main() -> int:
    """Start the servers and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.5, help="Of each server in each round.")
    arguments = parser.parse_args()
    measured = measure(arguments.repository, arguments.model, arguments.rounds, arguments.seconds)
    for one in measured:
        print(one.report(measured[0]))
    return 0 if ratios(measured[1].rates, measured[0].rates)[0] >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
