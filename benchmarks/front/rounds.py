"""All that `make bench` measures, in its order."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from front import calls
from front.beside import beside_others, more_workers
from front.growth import Curve, growth
from front.latency import at_a_share_of_capacity, health_beside_load
from front.models import HEAVY, LIGHT, find
from front.peers import Peer, empty, latentserve
from front.processes import Cores, memory_mib, output_of
from front.triton import triton
from front.turns import IN_FLIGHT, Lane, Plan, Turns

ROWS = (1, 16, 64, 256)
EMPTY_BYTES = 786
WARM_UP_ROWS = 512
BESIDE_BARE = ((HEAVY, 16), (HEAVY, 64), (HEAVY, 256), (LIGHT, 256))
"""Models and rows a call that are compared with onnxruntime alone."""


class Bench:
    """One run of the benchmark."""

    def __init__(self, repository: Path, environments: Path, cores: Cores, plan: Plan) -> None:
        self.models = {name: find(repository, name) for name in (LIGHT, HEAVY)}
        self._repository, self._environments, self._cores, self._plan = repository, environments, cores, plan
        self._turns = Turns(cores, plan)
        self.figures = self._turns.figures
        self.growth: list[Curve] = []

    def run(self) -> None:
        """Measure everything. Raises BenchError at the first wrong answer."""
        self._starts()
        references = {name: calls.Reference(model) for name, model in self.models.items()}
        with latentserve(self._cores.server, self._repository) as own:
            self.figures.add("latentserve.memory_mib", memory_mib(own.pid))
            self._beside_triton(own, references)
            for reference in references.values():
                at_a_share_of_capacity(self._turns, own, reference)
            health_beside_load(self._turns, own, references[HEAVY])
            self._python_client(own)
            if self._plan.is_whole:
                beside_others(self._turns, self._cores, self._environments, own, references[LIGHT])
        self._empty()
        more_workers(self._turns, self._cores, self._repository, references[LIGHT])
        if self._plan.is_whole:
            self.growth = growth(self._turns, self._cores, self._repository, references[LIGHT])

    def _beside_triton(self, own: Peer, references: Mapping[str, calls.Reference]) -> None:
        models, environment = list(self.models.values()), self._environments / "triton"
        with triton(self._cores.server, environment, models) as other:
            self.figures.add("triton.memory_mib", memory_mib(other.pid))
            for name, reference in references.items():
                self._throughput(own, other, reference)
                self._turns.say(f"{name}: calls/s measured at {', '.join(map(str, ROWS))} rows a call")
            self._images(own, other, references[HEAVY])
            self._single_calls(own, other, references)

    def _starts(self) -> None:
        """Once to have everything read and compiled, then as often as there are rounds."""
        for place in range(self._plan.rounds + 1):
            with latentserve(self._cores.server, self._repository) as peer:
                if place:
                    self.figures.add("latentserve.seconds_to_serving", peer.seconds_to_serving)
        self._turns.say("start to SERVING measured")

    def _throughput(self, own: Peer, other: Peer, reference: calls.Reference) -> None:
        model = reference.model
        for rows in ROWS:
            warm_up = min(IN_FLIGHT, max(8, WARM_UP_ROWS // rows))
            lanes = [
                Lane(f"sample/{model.name}/{rows}", calls.sample(own, reference, rows), warm_up=warm_up),
                Lane(f"oip/{model.name}/{rows}", calls.infer(own, reference, rows), warm_up=warm_up),
                Lane(f"triton/{model.name}/{rows}", calls.infer(other, reference, rows), warm_up=warm_up),
            ]
            self._turns.take(lanes, bare=(model, rows) if (model.name, rows) in BESIDE_BARE else None)

    def _images(self, own: Peer, other: Peer, reference: calls.Reference) -> None:
        self._turns.take(
            [
                Lane("encode", calls.encode(own, reference)),
                Lane("oip/encode", calls.infer_posterior(own, reference)),
                Lane("triton/encode", calls.infer_posterior(other, reference)),
            ]
        )
        self._turns.take(
            [
                Lane("reconstruct", calls.reconstruct(own, reference)),
                Lane("triton/reconstruct", calls.infer_reconstruction(other, reference)),
            ]
        )
        self._turns.take(
            [
                Lane("score", calls.score(own, reference)),
                Lane("triton/score", calls.infer_score(other, reference)),
            ]
        )
        self._turns.say("Encode, Reconstruct and Score measured")

    def _single_calls(self, own: Peer, other: Peer, references: Mapping[str, calls.Reference]) -> None:
        for name, reference in references.items():
            self._turns.take(
                [
                    Lane(f"single/sample/{name}", calls.sample(own, reference, 1), 1, 1),
                    Lane(f"single/oip/{name}", calls.infer(own, reference, 1), 1, 1),
                    Lane(f"single/triton/{name}", calls.infer(other, reference, 1), 1, 1),
                ]
            )
        self._turns.say("one call at a time measured")

    def _python_client(self, own: Peer) -> None:
        command = [sys.executable, "-m", "front.python_client", own.target, LIGHT]
        for _ in range(self._plan.rounds):
            printed = output_of(self._cores.load, [*command, str(max(1.0, self._plan.seconds)), str(IN_FLIGHT)])
            for kind, rate in json.loads(printed).items():
                self.figures.add(f"python_client/{kind}.calls_per_second", rate)
        self._turns.say("the Python client measured")

    def _empty(self) -> None:
        with empty(self._cores.server, EMPTY_BYTES) as peer:
            self._turns.take([Lane("empty", calls.nothing(peer, EMPTY_BYTES))])
        self._turns.say("the empty call measured")
