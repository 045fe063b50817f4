"""How long calls take beside others: at a share of the capacity in an open loop, and health checks under load."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from front import calls
from front.load import Run, quantile
from front.peers import Peer
from front.processes import BenchError
from front.turns import Lane, Turns

OPEN_LOOP_SHARE = 0.8
"""Of the calls a second that 64 callers get, which is how many come in an open loop."""
HEALTH_CHECKS_PER_SECOND = 50
MIN_HEALTH_SECONDS = 2.0


def at_a_share_of_capacity(turns: Turns, own: Peer, reference: calls.Reference) -> None:
    """Calls of one row in an open loop, right after the capacity is measured; every round has its own arrivals."""
    name = reference.model.name
    lane = Lane(f"capacity/{name}", calls.sample(own, reference, 1))
    try:
        runs = [_at_a_share(turns, lane, name, place) for place in range(turns.plan.rounds)]
    except BenchError as error:
        turns.say(f"{error}: {name} does not sustain {OPEN_LOOP_SHARE:.0%} of its capacity")
        return
    for run in runs:
        turns.figures.add(f"open_loop/{name}.p50_us", 1e6 * run.p50)
        turns.figures.add(f"open_loop/{name}.p99_us", 1e6 * run.quantile(0.99))
        turns.figures.add(f"open_loop/{name}.late_p99_us", 1e6 * quantile(run.late, 0.99))
    turns.say(f"{name}: calls at {OPEN_LOOP_SHARE:.0%} of capacity measured")


def _at_a_share(turns: Turns, lane: Lane, name: str, place: int) -> Run:
    plan = turns.plan
    probe = turns.figures.median(f"sample/{name}/1.calls_per_second") * plan.seconds / 2
    rate = OPEN_LOOP_SHARE * turns.run(lane, max(plan.least_calls, round(probe)), keep=True)
    return turns.load.open_loop(lane.call, max(plan.least_calls, round(rate * plan.seconds)), rate, seed=place + 1)


def health_beside_load(turns: Turns, own: Peer, reference: calls.Reference) -> None:
    """Health checks, one by one, while 64 callers load a model."""
    busy, check = calls.sample(own, reference, 1), calls.health(own)
    seconds = max(MIN_HEALTH_SECONDS, turns.plan.seconds)
    rate = turns.figures.median(f"sample/{reference.model.name}/1.calls_per_second")
    checks, a_second = round(seconds * HEALTH_CHECKS_PER_SECOND), HEALTH_CHECKS_PER_SECOND
    for _ in range(turns.plan.rounds):
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(turns.load.run, busy, round(rate * (seconds + 1)))
            run = turns.load.run(check, checks, connections=1, in_flight=1, per_second=a_second)
            load.result()
        turns.figures.add("health_beside_load.p99_us", 1e6 * run.quantile(0.99))
    turns.say("health checks beside 64 callers measured")
