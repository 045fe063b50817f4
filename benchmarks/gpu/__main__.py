"""Test and measure the server on a GPU.

    PYTHONPATH=benchmarks python -m gpu --repository models --name h200

`make gpu-check` runs it: parity of every graph with PyTorch and with the CPU, and the nodes left to the CPU; rows a
second of the graphs alone and through the server, in every way; calls of one row; more workers, where the server has
them; how busy the GPU was, and memory over time; and the server's tests on the device. What does not fit --minutes is
left out and named, and so is a part that fails; the others go on. With --device cpu the command proves itself; such
figures say nothing of a GPU. Where this checkout's packages are not installed, it runs again where they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpu.environment import environment, is_installed
from gpu.graphs import Row, bundles, graph_problems, last_line, measure_graph
from gpu.report import markdown
from gpu.served import measure_batches, measure_single_rows, measure_workers
from gpu.suite import run_suite, suite_problems
from latentserve_server.bundle.bundle import Bundle
from latentserve_server.engine import Cpu, Cuda, choose_placement, runtime_version
from latentserve_server.errors import DeviceError

SINGLE_ROWS = 6
"""How many times as long calls of one row are measured as anything else: they come by the thousand."""
SUITE_SECONDS = {"cuda": 150.0, "cpu": 300.0}
"""What the server's tests may take: a machine with a GPU has processors enough."""
SUITE_SHARE = 0.65
"""Of the time that is left, at most, when the tests begin; large batches through the server have the rest."""
END_SECONDS = 15.0
"""What is kept of the time for the end."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "results")
    parser.add_argument("--name", help="Of the files in --output; default: gpu, or gpu-dry with --device cpu.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1024, 4096])
    parser.add_argument("--seconds", type=float, default=0.3, help="For each figure.")
    parser.add_argument("--minutes", type=float, default=8.0, help="For everything.")
    parser.add_argument("--tests", nargs="*", default=["tests/server"], help="None: no tests are run.")
    return parser.parse_args()


class Check:
    """One run: its parts, what they found, and what went wrong."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given, self._began = given, time.monotonic()
        self._problems: list[str] = []
        self.results: Row = {
            "device": device_name(given.device),
            "onnxruntime": runtime_version(),
            "problems": self._problems,
        }

    def run(self) -> None:
        """Everything; what is least to be spared comes first."""
        given = self._given
        where, device, batches, seconds = given.repository, given.device, given.batches, given.seconds
        found = dict(bundles(where))
        models = list(found)
        light = min(models, key=lambda name: "conv" in name)
        ones = SINGLE_ROWS * seconds
        self._part("graphs", lambda: {name: self._graphs(bundle) for name, bundle in found.items()})
        self._problems += graph_problems(self.results.get("graphs", {}))
        self._part("single_rows", lambda: measure_single_rows(where, models, device, ones))
        self._part("workers", lambda: measure_workers(where, light, device, ones))
        if given.tests:
            self._part("suite", lambda: run_suite(device, given.tests, self._suite_seconds()))
            self._problems += suite_problems(self.results["suite"]) if "suite" in self.results else []
        self._part("served", lambda: measure_batches(where, models, device, batches, seconds, self._left))
        failed = self.results.get("served", {}).get("failed", {})
        self._problems += [f"through the server, {way}: {why}" for way, why in failed.items()]
        self.write()

    def write(self) -> None:
        """What there is so far, as data and for people."""
        given = self._given
        self.results["seconds"] = time.monotonic() - self._began
        name = given.name or ("gpu" if given.device == "cuda" else "gpu-dry")
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / f"{name}.json").write_text(json.dumps(self.results, indent=1) + "\n")
        (given.output / f"{name}.md").write_text(markdown(self.results))

    def _graphs(self, bundle: Bundle) -> list[Row]:
        given = self._given
        return [measure_graph(bundle, role, given.device, given.batches, given.seconds) for role in bundle.graphs]

    def _suite_seconds(self) -> float:
        return min(SUITE_SECONDS[self._given.device], SUITE_SHARE * self._left())

    def _left(self) -> float:
        until = self._began + 60 * float(self._given.minutes) - END_SECONDS
        return until - time.monotonic()

    def _part(self, name: str, measure: Callable[[], object]) -> None:
        if self._left() <= 0:
            self._problems.append(f"{name}: no time was left")
            return
        print(f"{time.monotonic() - self._began:4.0f} s: {name}", flush=True)
        try:
            self.results[name] = measure()
        except (Exception, SystemExit) as error:  # whatever fails, a rented machine is to bring back the rest
            self._problems.append(f"{name}: {last_line(error)}")
        self.write()


def device_name(device: str) -> str:
    """What the driver calls the GPU."""
    if device == "cpu":
        return "cpu"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main() -> int:
    """Measure, print what was written, and fail where something is wrong."""
    given = arguments()
    if not is_installed():
        with environment() as python:
            return subprocess.call([python, "-m", "gpu", *sys.argv[1:]])
    try:
        choose_placement(given.device, Cpu(threads=1), Cuda())
    except DeviceError as error:
        raise SystemExit(f"gpu: {error}") from error
    check = Check(given)
    check.run()
    print(markdown(check.results))
    if problems := check.results["problems"]:
        print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
