"""Beside other servers over the same decoder, and beside more processes of this one."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from front import calls
from front.others import OTHERS
from front.peers import SERVER, Peer, latentserve
from front.processes import Cores
from front.turns import Lane, Turns

ROWS_BESIDE_OTHERS = (1, 64)
WORKERS = (1, 2)


def beside_others(turns: Turns, cores: Cores, environments: Path, own: Peer, reference: calls.Reference) -> None:
    """Sample here, and the same rows there, at 1 and at 64 rows a call."""
    for rows in ROWS_BESIDE_OTHERS:
        with ExitStack() as stack:
            lanes = [Lane(f"beside/latentserve/{rows}", calls.sample(own, reference, rows))]
            for name, other in OTHERS.items():
                start = other.start(cores.server, environments / name, reference.model, rows)
                lanes.append(Lane(f"beside/{name}/{rows}", other.call(stack.enter_context(start), reference, rows)))
            turns.take(lanes)
        turns.say(f"{', '.join(OTHERS)}: calls/s measured, rows a call: {rows}")


def more_workers(turns: Turns, cores: Cores, repository: Path, reference: calls.Reference) -> None:
    """One and two processes: their processor time a call, and where the load keeps a core of its own, calls a second.

    A worker's statistics may be its own, so the bytes of the answers are counted.
    """
    if not knows_workers():
        turns.say("this server has no --workers")
        return
    most = max(WORKERS)
    spread = cores.several[:most] if len(cores.several) >= most else ()
    with ExitStack() as stack:
        lanes = []
        for count in WORKERS:
            peer = stack.enter_context(latentserve(spread or cores.server, repository, f"--workers={count}"))
            key = f"workers/{count}" if spread else f"workers_on_one_core/{count}"
            lanes.append(Lane(key, calls.sample(peer, reference, 1, counts=False)))
        turns.take(lanes)
    turns.say(f"{' and '.join(map(str, WORKERS))} workers measured")


def knows_workers() -> bool:
    """Whether this server has the option."""
    command = [sys.executable, "-c", SERVER, "--help"]
    return "--workers" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
