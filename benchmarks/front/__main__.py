"""Measure this server beside others, onnxruntime and grpc.aio, and print how far each goal is reached.

    PYTHONPATH=benchmarks python -m front --repository demo/models --environments .venv [--quick]

`make bench` and `make bench-quick` install what it needs and run it. One core serves, another loads: 64 calls in flight
over 8 connections. What is compared takes turns, round by round. Before anything is measured, one answer of every kind
is compared with onnxruntime's, and every run fails unless each of its calls was answered (see front/load.py).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from front.goals import goals
from front.growth import Curve
from front.growth_report import picture, tables
from front.machine import describe, versions
from front.others import other_versions
from front.peers import SERVER_OPTIONS
from front.processes import BenchError, choose_cores
from front.report import judged, table
from front.rounds import Bench
from front.triton import triton_versions
from front.turns import FULL, QUICK

RESULTS = Path(__file__).parents[1] / "results"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="front", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=Path, required=True, help="The demo's models.")
    parser.add_argument("--environments", type=Path, required=True, help="Folder of those with Triton and the others.")
    parser.add_argument("--quick", action="store_true", help="Two minutes in place of fifteen.")
    parser.add_argument("--name", help="Of the file in benchmarks/results; default: front or front-quick.")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], Sequence[Curve]]:
    """Run everything; what is to be kept of it, and the curves of growth that are in it, too."""
    cores = choose_cores()
    os.sched_setaffinity(0, {cores.load})
    plan = QUICK if options.quick else FULL
    elsewhere = {"triton": triton_versions(options.environments / "triton")}
    elsewhere |= other_versions(options.environments) if plan.is_whole else {}
    kept: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(cores),
        "versions": versions() | elsewhere,
        "plan": vars(plan),
        "server_options": SERVER_OPTIONS,
    }
    for name, found in elsewhere.items():
        if found["onnxruntime"] != kept["versions"]["onnxruntime"]:
            raise BenchError(
                f"{options.environments / name} has another onnxruntime than the server: remove it, "
                "and make bench installs it"
            )
    began = time.monotonic()
    bench = Bench(options.repository, options.environments, cores, plan)
    bench.run()
    kept["machine"]["load_average_after"] = os.getloadavg()
    kept |= {
        "seconds": round(time.monotonic() - began),
        "goals": judged(goals(), bench.figures),
        "disturbed": bench.figures.disturbed(),
        "figures": bench.figures.summary(),
        "growth": [asdict(curve) for curve in bench.growth],
    }
    return kept, bench.growth


def main() -> int:
    """Print the table and write the file."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments()
    try:
        kept, curves = measure(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was written", file=sys.stderr)
        return 130
    show(options.name or ("front-quick" if options.quick else "front"), kept, curves)
    return 0


def show(name: str, kept: dict[str, Any], curves: Sequence[Curve]) -> None:
    """Write the file, with a picture where there are curves, and print the tables."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"name": name} | kept, indent=1) + "\n")
    print(table(kept["goals"]))
    if curves:
        picture(curves, path.with_suffix(".svg"))
        print(f"\n{tables(curves)}")
    shown = path.relative_to(RESULTS.parents[1])
    load = kept["machine"]["load_average_before"][0], kept["machine"]["load_average_after"][0]
    print(f"\n{kept['seconds']} s; load average {load[0]:.1f} before, {load[1]:.1f} after; all rounds in {shown}")
    disturbed, measured = kept["disturbed"]
    if disturbed:
        print(f"In {disturbed} of {measured} measurements under load the server had less than nine tenths of its core.")


if __name__ == "__main__":
    sys.exit(main())
