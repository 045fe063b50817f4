"""What it costs a call to be secured: by TLS, by tokens, by tokens and limits, beside the same server without any.

    PYTHONPATH=benchmarks python -m front.security --repository demo/models

`make bench-security` runs it. As in `front`, one core serves, h2load has another one, 64 calls are in flight over 8
connections, the servers take turns round by round, and a run fails unless each of its calls was answered rightly.
Handshakes are no part of that, for connections last; so calls of one row are made by connections of their own, too,
which all begin at once. The key is of P-256, and both sides prefer TLS 1.3. The file of tokens has 101.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from front import calls
from front.figures import Figures
from front.models import LIGHT, find
from front.peers import Peer, latentserve
from front.processes import BenchError, choose_cores, command_of
from front.turns import Lane, Plan, Turns
from latentserve_server.access.token_file import write_token_entry
from latentserve_server.access.tokens import make_token

PLAN = Plan(rounds=15, seconds=1.0, least_calls=64, is_whole=False, minutes=3)
ROWS = (1, 64)
CONNECTIONS = 256
PLAIN = "none"
SIDES = {PLAIN: "nothing", "tls": "TLS", "tokens": "tokens", "limits": "tokens and limits"}
"""Names of the servers, and by what their calls are secured."""
LANES = {"1": "1 row", "64": "64 rows", "new": "1 row by a new connection"}
"""Ends of the lanes' names, and what they are in words."""
GOAL = 0.85
"""Calls a second of one row, by those of the server without any: 15 % of them is what each may cost."""
OTHERS = 100
"""Tokens beside the one that calls."""
LIMITS = ("--caller-calls-per-second=1e9", "--caller-rows-per-second=1e9", "--caller-rows-in-flight=1000000000")


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


def make_tokens(folder: Path) -> tuple[Path, str]:
    """A file of tokens in the folder, and one of them."""
    tokens = [make_token() for _ in range(OTHERS + 1)]
    scopes = ["generate", "read"]
    entries = [
        write_token_entry({"name": f"caller-{place}", "id": one.id, "sha256": one.digest.hex(), "scopes": scopes})
        for place, one in enumerate(tokens)
    ]
    path = folder / "tokens.yaml"
    path.touch(0o600)
    path.write_text("".join(entries))
    return path, tokens[0].text


def measure(repository: Path) -> Figures:
    """Calls of one row to every server, and what TLS does to more rows and to new connections, round by round."""
    cores = choose_cores()
    os.sched_setaffinity(0, {cores.load})
    turns, reference = Turns(cores, PLAN), calls.Reference(find(repository, LIGHT))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (certificate, key), (tokens, token) = make_certificate(folder), make_tokens(folder)
        files, asked = (f"--tls-cert={certificate}", f"--tls-key={key}"), f"--tokens={tokens}"

        def serve(*options: str, certificate: bytes | None = None, token: str = "") -> Peer:
            return stack.enter_context(
                latentserve(cores.server, repository, *options, certificate=certificate, token=token)
            )

        peers = {
            PLAIN: serve(),
            "tls": serve(*files, certificate=certificate.read_bytes()),
            "tokens": serve(asked, token=token),
            "limits": serve(asked, *LIMITS, token=token),
        }
        for rows in ROWS:
            sides = peers if rows == 1 else (PLAIN, "tls")
            turns.take([Lane(f"{side}/{rows}", calls.sample(peers[side], reference, rows)) for side in sides])
        ones = [(side, calls.sample(peers[side], reference, 1)) for side in (PLAIN, "tls")]
        connect(turns, [Lane(f"{side}/new", call, CONNECTIONS, CONNECTIONS) for side, call in ones])
    return turns.figures


def connect(turns: Turns, lanes: Sequence[Lane]) -> None:
    """As many calls as each lane has connections."""
    for place in range(PLAN.rounds):
        for lane in lanes if place % 2 == 0 else reversed(lanes):
            turns.run(lane, lane.connections, keep=True)


def table(figures: Figures) -> str:
    """A line for each kind of call: medians of the rounds, and of the rounds' ratios, with their quartiles."""
    lines = [
        "| Sample, MLP GAN | secured by | calls/s | ratio | quartiles | CPU us a call | ratio |",
        f"|{' --- |' * 7}",
    ]
    for lane, words in LANES.items():
        for side, how in SIDES.items():
            rate, cpu = f"{side}/{lane}.calls_per_second", f"{side}/{lane}.cpu_us_a_call"
            if rate not in figures.values:
                continue
            low, ratio, high = quartiles(figures, rate, f"{PLAIN}/{lane}.calls_per_second")
            _, cost, _ = quartiles(figures, cpu, f"{PLAIN}/{lane}.cpu_us_a_call")
            cells = [words, how, f"{figures.median(rate):,.0f}", f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"]
            lines.append(f"| {' | '.join([*cells, f'{figures.median(cpu):,.0f}', f'{cost:.3f}'])} |")
    return "\n".join(lines)


def quartiles(figures: Figures, one: str, other: str) -> tuple[float, float, float]:
    """Those of the rounds' ratios."""
    low, middle, high = statistics.quantiles(figures.ratios(one, other), n=4)
    return low, middle, high


def main() -> int:
    """Print the table, and whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True, help="The demo's models.")
    try:
        figures = measure(parser.parse_args().repository)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(figures), end="\n\n")
    for side, how in list(SIDES.items())[1:]:
        _, ratio, _ = quartiles(figures, f"{side}/1.calls_per_second", f"{PLAIN}/1.calls_per_second")
        print(f"goal for {how}, 1 row: >= {GOAL}; {'met' if ratio >= GOAL else 'missed'}")
    disturbed, measured = figures.disturbed()
    print(f"In {disturbed} of {measured} measurements the server had less than nine tenths of its core.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
