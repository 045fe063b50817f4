"""Rounds in which all that is compared takes turns."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from front.figures import Figures
from front.load import Call, Load
from front.models import Model
from front.peers import bare_rows_per_second
from front.processes import Cores

IN_FLIGHT = 64
BARE_BATCHES = (16, 64, 256)


@dataclass(frozen=True)
class Plan:
    """How long a run measures."""

    rounds: int
    seconds: float
    """Of one measurement in one round."""
    least_calls: int
    """Calls of one measurement, however slow; fewer than `IN_FLIGHT` are not all under way at a time."""
    is_whole: bool
    """Whether other servers than Triton are measured, and what grows."""
    minutes: int
    """What it takes on an idle machine, about."""


FULL = Plan(rounds=5, seconds=2.75, least_calls=64, is_whole=True, minutes=15)
QUICK = Plan(rounds=3, seconds=0.5, least_calls=16, is_whole=False, minutes=2)


@dataclass(frozen=True)
class Lane:
    """One of the things that take turns."""

    key: str
    call: Call
    connections: int = 8
    in_flight: int = IN_FLIGHT
    warm_up: int = 64


class Turns:
    """Measures lanes in turns, and keeps what comes of them."""

    def __init__(self, cores: Cores, plan: Plan) -> None:
        self.figures, self.load, self.plan, self._cores = Figures(), Load(cores.load), plan, cores
        self._began = time.monotonic()

    def take(self, lanes: Sequence[Lane], bare: tuple[Model, int] | None = None) -> None:
        """All lanes in every round, back and forth; with `bare`, that model's decoder in onnxruntime alone, too."""
        rates = {lane.key: self.run(lane, lane.warm_up) for lane in lanes}
        for place in range(self.plan.rounds):
            for lane in lanes if place % 2 == 0 else reversed(lanes):
                count = max(self.plan.least_calls, round(rates[lane.key] * self.plan.seconds))
                rates[lane.key] = self.run(lane, count, keep=True)
            if bare:
                self._bare(*bare)

    def run(self, lane: Lane, count: int, keep: bool = False) -> float:
        """So many calls of one lane; returns how many were answered a second."""
        run = self.load.run(lane.call, count, connections=lane.connections, in_flight=lane.in_flight)
        if keep:
            self.figures.add(f"{lane.key}.calls_per_second", run.calls_per_second)
            self.figures.add(f"{lane.key}.cpu_us_a_call", run.cpu_us)
            self.figures.add(f"{lane.key}.p50_us", 1e6 * run.p50)
            self.figures.add(f"{lane.key}.p99_us", 1e6 * run.quantile(0.99))
            self.figures.add(f"{lane.key}.core_share", run.cpu_seconds / run.seconds)
        return run.calls_per_second

    def _bare(self, model: Model, rows: int) -> None:
        """Beside the calls of `rows` rows, but with the batch that is best for onnxruntime."""
        batches = BARE_BATCHES
        printed = bare_rows_per_second(self._cores.server, model, self.plan.seconds / len(batches), batches)
        self.figures.add(f"bare/{model.name}/{rows}.rows_per_second", max(json.loads(printed).values()))

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        passed = (time.monotonic() - self._began) / 60
        print(f"{passed:4.1f} of about {self.plan.minutes} minutes: {text}", file=sys.stderr, flush=True)
