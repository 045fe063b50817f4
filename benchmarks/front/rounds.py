"""Rounds in which all that is compared takes turns, and the figures that come of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from front import calls
from front.figures import Figures
from front.load import Call, Load, Run, quantile
from front.models import Model, find
from front.peers import Peer, bare_rows_per_second, empty, latentserve
from front.processes import BenchError, Cores, memory_mib, output_of
from front.triton import triton

LIGHT, HEAVY = "mlp_gan", "conv_vae"
ROWS = (1, 16, 64, 256)
IN_FLIGHT = 64
EMPTY_BYTES = 786
HEALTH_CHECKS_PER_SECOND = 50
MIN_HEALTH_SECONDS = 2.0
WARM_UP_ROWS = 512
OPEN_LOOP_SHARE = 0.8
"""Of the calls a second that 64 callers get, which is how many come in an open loop."""
BESIDE_BARE = ((HEAVY, 16), (HEAVY, 64), (HEAVY, 256), (LIGHT, 256))
"""Models and rows a call that are compared with onnxruntime alone."""


@dataclass(frozen=True)
class Plan:
    """How long a run measures."""

    rounds: int
    seconds: float
    """Of one measurement in one round."""
    least_calls: int
    """Calls of one measurement, however slow; fewer than `IN_FLIGHT` are not all under way at a time."""


FULL = Plan(rounds=5, seconds=4.0, least_calls=64)
QUICK = Plan(rounds=3, seconds=0.5, least_calls=16)


@dataclass(frozen=True)
class Lane:
    """One of the things that take turns."""

    key: str
    call: Call
    connections: int = 8
    in_flight: int = IN_FLIGHT
    warm_up: int = 64


class Bench:
    """One run of the benchmark."""

    def __init__(self, repository: Path, triton_environment: Path, cores: Cores, plan: Plan) -> None:
        self.figures = Figures()
        self.models = {name: find(repository, name) for name in (LIGHT, HEAVY)}
        self._repository, self._environment, self._cores, self._plan = repository, triton_environment, cores, plan
        self._load = Load(cores.load)

    def run(self) -> None:
        """Measure everything. Raises BenchError at the first wrong answer."""
        self._starts()
        with ExitStack() as stack:
            own = stack.enter_context(latentserve(self._cores.server, self._repository))
            other = stack.enter_context(triton(self._cores.server, self._environment, list(self.models.values())))
            references = {name: calls.Reference(model) for name, model in self.models.items()}
            for peer in (own, other):
                self.figures.add(f"{peer.name}.memory_mib", memory_mib(peer.pid))
            for name, reference in references.items():
                self._throughput(own, other, reference)
                say(f"{name}: calls/s measured at {', '.join(map(str, ROWS))} rows a call")
            self._images(own, other, references[HEAVY])
            self._single_calls(own, other, references)
            self._open_loop(own, references)
            self._health(own, references[HEAVY])
            self._python_client(own)
        self._empty()

    def _starts(self) -> None:
        """Once to have everything read and compiled, then as often as there are rounds."""
        for place in range(self._plan.rounds + 1):
            with latentserve(self._cores.server, self._repository) as peer:
                if place:
                    self.figures.add("latentserve.seconds_to_serving", peer.seconds_to_serving)
        say("start to SERVING measured")

    def _throughput(self, own: Peer, other: Peer, reference: calls.Reference) -> None:
        model = reference.model
        for rows in ROWS:
            warm_up = min(IN_FLIGHT, max(8, WARM_UP_ROWS // rows))
            lanes = [
                Lane(f"sample/{model.name}/{rows}", calls.sample(own, reference, rows), warm_up=warm_up),
                Lane(f"oip/{model.name}/{rows}", calls.infer(own, reference, rows), warm_up=warm_up),
                Lane(f"triton/{model.name}/{rows}", calls.infer(other, reference, rows), warm_up=warm_up),
            ]
            self._take_turns(lanes, bare=(model, rows) if (model.name, rows) in BESIDE_BARE else None)

    def _images(self, own: Peer, other: Peer, reference: calls.Reference) -> None:
        self._take_turns(
            [
                Lane("encode", calls.encode(own, reference)),
                Lane("oip/encode", calls.infer_posterior(own, reference)),
                Lane("triton/encode", calls.infer_posterior(other, reference)),
            ]
        )
        self._take_turns(
            [
                Lane("reconstruct", calls.reconstruct(own, reference)),
                Lane("triton/reconstruct", calls.infer_reconstruction(other, reference)),
            ]
        )
        self._take_turns(
            [
                Lane("score", calls.score(own, reference)),
                Lane("triton/score", calls.infer_score(other, reference)),
            ]
        )
        say("Encode, Reconstruct and Score measured")

    def _single_calls(self, own: Peer, other: Peer, references: Mapping[str, calls.Reference]) -> None:
        for name, reference in references.items():
            self._take_turns(
                [
                    Lane(f"single/sample/{name}", calls.sample(own, reference, 1), 1, 1),
                    Lane(f"single/oip/{name}", calls.infer(own, reference, 1), 1, 1),
                    Lane(f"single/triton/{name}", calls.infer(other, reference, 1), 1, 1),
                ]
            )
        say("one call at a time measured")

    def _take_turns(self, lanes: Sequence[Lane], bare: tuple[Model, int] | None = None) -> None:
        rates = {lane.key: self._run(lane, lane.warm_up) for lane in lanes}
        for place in range(self._plan.rounds):
            for lane in lanes if place % 2 == 0 else reversed(lanes):
                count = max(self._plan.least_calls, round(rates[lane.key] * self._plan.seconds))
                rates[lane.key] = self._run(lane, count, keep=True)
            if bare:
                self._bare(*bare)

    def _run(self, lane: Lane, count: int, keep: bool = False) -> float:
        run = self._load.run(lane.call, count, connections=lane.connections, in_flight=lane.in_flight)
        if keep:
            self.figures.add(f"{lane.key}.calls_per_second", run.calls_per_second)
            self.figures.add(f"{lane.key}.cpu_us_a_call", run.cpu_us)
            self.figures.add(f"{lane.key}.p50_us", 1e6 * run.p50)
            self.figures.add(f"{lane.key}.p99_us", 1e6 * run.quantile(0.99))
            self.figures.add(f"{lane.key}.core_share", run.cpu_seconds / run.seconds)
        return run.calls_per_second

    def _bare(self, model: Model, rows: int) -> None:
        """Beside the calls of `rows` rows, but with the batch that is best for onnxruntime."""
        batches = ROWS[1:]
        printed = bare_rows_per_second(self._cores.server, model, self._plan.seconds / len(batches), batches)
        self.figures.add(f"bare/{model.name}/{rows}.rows_per_second", max(json.loads(printed).values()))

    def _open_loop(self, own: Peer, references: Mapping[str, calls.Reference]) -> None:
        """At a share of the capacity that was just measured; the seed of the arrivals is another one every round."""
        for name, reference in references.items():
            lane = Lane(f"capacity/{name}", calls.sample(own, reference, 1))
            try:
                runs = [self._at_a_share(lane, name, place) for place in range(self._plan.rounds)]
            except BenchError as error:
                say(f"{error}: {name} does not sustain {OPEN_LOOP_SHARE:.0%} of its capacity")
                continue
            for run in runs:
                self.figures.add(f"open_loop/{name}.p50_us", 1e6 * run.p50)
                self.figures.add(f"open_loop/{name}.p99_us", 1e6 * run.quantile(0.99))
                self.figures.add(f"open_loop/{name}.late_p99_us", 1e6 * quantile(run.late, 0.99))
        say(f"calls at {OPEN_LOOP_SHARE:.0%} of capacity measured")

    def _at_a_share(self, lane: Lane, name: str, place: int) -> Run:
        probe = self.figures.median(f"sample/{name}/1.calls_per_second") * self._plan.seconds / 2
        rate = OPEN_LOOP_SHARE * self._run(lane, max(self._plan.least_calls, round(probe)), keep=True)
        count = max(self._plan.least_calls, round(rate * self._plan.seconds))
        return self._load.open_loop(lane.call, count, rate, seed=place + 1)

    def _health(self, own: Peer, reference: calls.Reference) -> None:
        busy, check = calls.sample(own, reference, 1), calls.health(own)
        seconds = max(MIN_HEALTH_SECONDS, self._plan.seconds)
        rate = self.figures.median(f"sample/{reference.model.name}/1.calls_per_second")
        checks = round(seconds * HEALTH_CHECKS_PER_SECOND)
        for _ in range(self._plan.rounds):
            with ThreadPoolExecutor(1) as pool:
                load = pool.submit(self._load.run, busy, round(rate * (seconds + 1)))
                run = self._load.run(check, checks, connections=1, in_flight=1, per_second=HEALTH_CHECKS_PER_SECOND)
                load.result()
            self.figures.add("health_beside_load.p99_us", 1e6 * run.quantile(0.99))
        say("health checks beside 64 callers measured")

    def _python_client(self, own: Peer) -> None:
        command = [sys.executable, "-m", "front.python_client", own.target, LIGHT]
        for _ in range(self._plan.rounds):
            printed = output_of(self._cores.load, [*command, str(max(1.0, self._plan.seconds)), str(IN_FLIGHT)])
            for kind, rate in json.loads(printed).items():
                self.figures.add(f"python_client/{kind}.calls_per_second", rate)
        say("the Python client measured")

    def _empty(self) -> None:
        with empty(self._cores.server, EMPTY_BYTES) as peer:
            self._take_turns([Lane("empty", calls.nothing(peer, EMPTY_BYTES))])
        say("the empty call measured")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)
