"""What TLS costs a call: this server with a certificate and the same without one take turns.

    PYTHONPATH=benchmarks python -m front.tls --repository demo/models

`make bench-tls` runs it. As in `front`, one core serves, h2load has another one, 64 calls are in flight over 8
connections, and a run fails unless each of its calls was answered rightly. Handshakes are no part of that, for
connections last; so calls of one row are made by connections of their own, too, which all begin at once. The key is
of P-256, and both sides prefer TLS 1.3.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from front import calls
from front.figures import Figures
from front.models import LIGHT, find
from front.peers import latentserve
from front.processes import BenchError, choose_cores, command_of
from front.turns import Lane, Plan, Turns

PLAN = Plan(rounds=7, seconds=2.0, least_calls=64, is_whole=False, minutes=1)
ROWS = (1, 64)
CONNECTIONS = 256
LANES = {"1": "1 row", "64": "64 rows", "new": "1 row by a new connection"}
"""Ends of the lanes' names, and what they are in words."""
GOAL = 0.85
"""Calls a second of one row, by those in plain text: TLS is to cost 15 % of them at most."""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback address that signs itself, and its key; files of the folder."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    command = [command_of("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=bench"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"openssl makes no certificate: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]}")
    return certificate, key


def measure(repository: Path) -> Figures:
    """Calls of every number of rows, in plain text and by TLS, round by round."""
    cores = choose_cores()
    os.sched_setaffinity(0, {cores.load})
    turns, reference = Turns(cores, PLAN), calls.Reference(find(repository, LIGHT))
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        options = f"--tls-cert={certificate}", f"--tls-key={key}"
        with (
            latentserve(cores.server, repository) as plain,
            latentserve(cores.server, repository, *options, certificate=certificate.read_bytes()) as secured,
        ):
            sides = ("plain", plain), ("tls", secured)
            for rows in ROWS:
                turns.take([Lane(f"{name}/{rows}", calls.sample(peer, reference, rows)) for name, peer in sides])
            ones = [(name, calls.sample(peer, reference, 1)) for name, peer in sides]
            connect(turns, [Lane(f"{name}/new", call, CONNECTIONS, CONNECTIONS) for name, call in ones])
    return turns.figures


def connect(turns: Turns, lanes: Sequence[Lane]) -> None:
    """As many calls as each lane has connections."""
    for place in range(PLAN.rounds):
        for lane in lanes if place % 2 == 0 else reversed(lanes):
            turns.run(lane, lane.connections, keep=True)


def table(figures: Figures) -> str:
    """A line for each kind of call: medians of the rounds, and the rounds' ratios."""
    lines = ["| Sample, MLP GAN | calls/s | by TLS | ratio | rounds | CPU us a call | by TLS |", f"|{' --- |' * 7}"]
    for lane, words in LANES.items():
        ratios = figures.ratios(*(f"{name}/{lane}.calls_per_second" for name in ("tls", "plain")))
        rates, times = (
            [figures.median(f"{name}/{lane}.{what}") for name in ("plain", "tls")]
            for what in ("calls_per_second", "cpu_us_a_call")
        )
        cells = [words, *(f"{rate:,.0f}" for rate in rates), f"{statistics.median(ratios):.3f}"]
        cells += [f"{min(ratios):.3f} to {max(ratios):.3f}", *(f"{time:,.0f}" for time in times)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table, and whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True, help="The demo's models.")
    try:
        figures = measure(parser.parse_args().repository)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(figures))
    ratio = statistics.median(figures.ratios("tls/1.calls_per_second", "plain/1.calls_per_second"))
    print(f"\ngoal, 1 row: >= {GOAL}; {'met' if ratio >= GOAL else 'missed'}")
    disturbed, measured = figures.disturbed()
    print(f"In {disturbed} of {measured} measurements the server had less than nine tenths of its core.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
