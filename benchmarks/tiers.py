"""The published results: every configuration trained on MNIST and evaluated with several seeds, then one table.

    python benchmarks/tiers.py --data-root data/mnist --output tiers
    python benchmarks/tiers.py --data-root data/mnist --output tiers --tier full --only dcgan --seeds 1
    python benchmarks/tiers.py --output tiers --table

Runs are kept in OUTPUT/TIER/NAME-SEED and their outputs beside them in .log files. Started again, with the same
arguments or others, it goes on where it stood. Failed runs stand in the table, too. tiers.yaml says what a tier is.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from latentserve_training.evaluation.report import Report
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.records import read_records

TIERS = Path(__file__).with_suffix(".yaml")
CONFIGS = Path(__file__).parent.parent / "training/latentserve_training/configs"


@dataclass(frozen=True)
class Goal:
    """A bound on the mean of a metric over the seeds: "<= 12", or "<= 1.5 dcgan" for so many times that of dcgan."""

    metric: str
    text: str

    def verdict(self, mine: Sequence[Run], runs: Sequence[Run]) -> str:
        """Whether the mean of `mine` is within the bound, and over how many; `runs` are those of all subjects."""
        relation, number, *other = self.text.split()
        bound, values = float(number), values_of(mine, self.metric)
        if other:
            bound *= mean_of([run for run in runs if run.subject.name == other[0]], self.metric) or math.nan
        if not values or math.isnan(bound):
            return "–"
        mean = statistics.mean(values)
        verdict = "met" if (mean <= bound if relation == "<=" else mean >= bound) else "missed"
        return verdict if len(values) == len(mine) else f"{verdict} by {len(values)} of {len(mine)}"


@dataclass(frozen=True)
class Subject:
    """One row of a tier."""

    name: str
    config: str
    epochs: int
    goals: Sequence[Goal]
    training: Sequence[str]
    evaluation: Sequence[str]


@dataclass(frozen=True)
class Run:
    """A subject with a seed, in a folder of its own."""

    subject: Subject
    seed: int
    folder: Path

    @property
    def log(self) -> Path:
        """What the commands printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def epochs(self) -> int:
        """How many have been trained."""
        records = read_records(RunFolder(self.folder).metrics)
        return int(records[-1]["epoch"]) if records else 0

    @cached_property
    def metrics(self) -> dict[str, float] | None:
        """The metrics of the report, as it is when first asked; None without one of these weights and epochs."""
        folder = RunFolder(self.folder)
        if not folder.report.exists() or self.epochs != self.subject.epochs:
            return None
        report = Report.load(folder.report)
        weights = hashlib.sha256(folder.chosen().read_bytes()).hexdigest()
        return report.metrics if report.checkpoint_sha256 == weights else None

    def commands(self, data_root: Path) -> list[list[str]]:
        """What trains the run, and what evaluates it."""
        subject, config = self.subject, CONFIGS / f"{self.subject.config}.yaml"
        train = ["latentserve-train", f"--config={config}", *subject.training, f"--data.root={data_root}"]
        train += [f"--trainer.epochs={subject.epochs}", f"--seed={self.seed}", f"--output={self.folder}"]
        return [train, ["latentserve-evaluate", str(self.folder), *subject.evaluation]]


def read_tier(tier: str) -> list[Subject]:
    """The subjects of a tier."""
    return [_subject(name, **content) for name, content in yaml.safe_load(TIERS.read_text())[tier].items()]


def _subject(name: str, *, goals: dict[str, str], training: Any = (), evaluation: Any = (), **content: Any) -> Subject:
    bounds = [Goal(metric, text) for metric, text in goals.items()]
    return Subject(name=name, goals=bounds, training=training, evaluation=evaluation, **content)


async def make_runs(runs: Sequence[Run], data_root: Path, jobs: int) -> None:
    """Train and evaluate what has no report of all its epochs yet, `jobs` runs at a time."""
    slots = asyncio.Semaphore(jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}

    async def make(run: Run) -> None:
        async with slots:
            for command in run.commands(data_root):
                say(f"{run.folder.name}: {command[0]}")
                if (status := await execute(command, run.log, environment)) != 0:
                    say(f"{run.folder.name}: exit code {status}; see {run.log}")
                    return

    async with asyncio.TaskGroup() as tasks:
        for run in runs:
            if run.metrics is None:
                tasks.create_task(make(run))


async def execute(command: Sequence[str], log: Path, environment: dict[str, str]) -> int:
    """Run a command, its output added to the log; where this is cancelled, stop it as Ctrl-C does, once."""
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=sink, stderr=sink, env=environment, start_new_session=True
        )
        try:
            return await process.wait()
        except asyncio.CancelledError:
            process.send_signal(signal.SIGINT)
            await process.wait()
            raise


def say(text: str) -> None:
    """Print with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def print_table(runs: Sequence[Run]) -> None:
    """Mean and standard deviation over the seeds of every goal's metric, beside the goal."""
    print("| Configuration | Epochs | Metric | Mean ± deviation | Seeds | Goal | |\n|---|---|---|---|---|---|---|")
    for subject in dict.fromkeys(run.subject.name for run in runs):
        of_subject = [run for run in runs if run.subject.name == subject]
        for goal in of_subject[0].subject.goals:
            print(_row(of_subject, goal, goal.verdict(of_subject, runs)))


def values_of(runs: Sequence[Run], metric: str) -> list[float]:
    """The metric of every run that has been evaluated."""
    return [run.metrics[metric] for run in runs if run.metrics is not None]


def mean_of(runs: Sequence[Run], metric: str) -> float | None:
    """The metric's mean over the runs that have been evaluated, if any."""
    values = values_of(runs, metric)
    return statistics.mean(values) if values else None


def _row(runs: Sequence[Run], goal: Goal, verdict: str) -> str:
    values = values_of(runs, goal.metric)
    seeds = [str(run.seed) if run.metrics is not None else f"{run.seed} ({_fate(run)})" for run in runs]
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    result = f"{statistics.mean(values):.4g}{spread}" if values else "–"
    subject = runs[0].subject
    cells = (f"`{subject.name}`", subject.epochs, goal.metric, result, ", ".join(seeds), goal.text, verdict)
    return f"| {' | '.join(map(str, cells))} |"


def _fate(run: Run) -> str:
    lines = run.log.read_text().splitlines() if run.log.exists() else []
    errors = [line for line in lines if line.startswith("latentserve-") and ": error: " in line]
    begun = f"not finished, {run.epochs} of {run.subject.epochs} epochs" if run.epochs or lines else "not run"
    return errors[-1] if errors else begun


def main() -> int:
    """Make the runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="Folder of MNIST's files; needed but for --table.")
    parser.add_argument("--output", type=Path, required=True, help="Folder of the runs; continued if it exists.")
    parser.add_argument("--tier", choices=["standard", "full"], default="standard")
    parser.add_argument("--only", nargs="+", help="Names of subjects; all of the tier when absent.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="Runs at a time, which share the processors.")
    parser.add_argument("--table", action="store_true", help="Run nothing; print the table of what is there.")
    arguments = parser.parse_args()
    subjects = read_tier(arguments.tier)
    names = arguments.only or [subject.name for subject in subjects]
    if unknown := set(names) - {subject.name for subject in subjects}:
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in subjects)}")
    home = arguments.output / arguments.tier
    wanted = [subject for subject in subjects if subject.name in names]

    def every() -> list[Run]:
        return [Run(one, seed, home / f"{one.name}-{seed}") for seed in arguments.seeds for one in wanted]

    if not arguments.table:
        if arguments.data_root is None:
            parser.error("--data-root is needed")
        home.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            asyncio.run(make_runs(every(), arguments.data_root, arguments.jobs))
        except KeyboardInterrupt:
            print("stopped; run the same command again to continue", file=sys.stderr)
            return 130
    print_table(every())
    return 0


if __name__ == "__main__":
    sys.exit(main())
