"""Ray: one that is started here, or a cluster that is there; alone imports it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from latentserve_bulk.errors import BulkError
from latentserve_bulk.job import Job, RowRange
from latentserve_bulk.results import Record
from latentserve_bulk.worker import Place, RangeWorker
from latentserve_server.available_cpus import available_cpus

_MOST_BLOCKS = 10_000
"""Blocks of ranges that Ray Data is given, at most: each costs the driver a moment."""

_OBJECT_STORE_BYTES = 100 << 20
"""What a Ray that is started here keeps for objects, of which there are ranges and their records alone."""

_THIS_MACHINE = ("127.0.0.1", "localhost")


@contextmanager
def ray_session(address: str | None) -> Iterator[RaySession]:
    """Ray, for the block: that of the address, or one of this machine's own, which nobody else reaches.

    Raises:
        BulkError: there is no Ray at the address, or none can be started.
    """
    # What Ray reads as it is imported. It takes the machine's address in the place of 127.0.0.1 unless it is told that
    # there is to be no cluster, by a variable that is named after other systems.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None or address.partition(":")[0] in _THIS_MACHINE:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=available_cpus(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise BulkError(f"Ray: {_first_line(error)}") from error
    signal.signal(signal.SIGTERM, terminate)  # Ray puts its own in its place, which leaves nothing to be said
    try:
        yield RaySession(ray)
    finally:
        ray.shutdown()


class RaySession:
    """Ray that has been started or joined."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def records(self, job: Job, place: Place, parts: Sequence[RowRange], workers: int | None) -> Iterator[Record]:
        """Make the ranges with so many workers at most, or as many as there is room for; their records as they come.

        Ray Data gives the ranges to workers, starts others in the place of those that end, and tries again.

        Raises:
            BulkError: a range cannot be made.
        """
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        room, resources = self._room(job, place.threads)
        blocks = min(len(parts), _MOST_BLOCKS)
        items = [{"start": part.start, "stop": part.stop} for part in parts]
        dataset = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            RangeWorker,
            fn_constructor_args=(job, place),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=max(1, min(workers or room, room, blocks))),
            **resources,
        )
        try:
            for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
                for record, error in zip(batch["record"], batch["error"], strict=True):
                    if error:
                        raise BulkError(str(error))
                    yield Record.from_json(str(record))
        except (ray.exceptions.RayError, RuntimeError) as error:
            raise BulkError(f"Ray: {_first_line(error)}") from error

    def _room(self, job: Job, threads: int) -> tuple[int, dict[str, float]]:
        """How many workers there is room for, and what each takes: a GPU where there are any, or its threads."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        if job.device.startswith("cuda") or (job.device == "auto" and gpus and job.numerics == "fast"):
            if not gpus:
                raise BulkError(f"--device {job.device}: Ray knows of no GPU")
            return gpus, {"num_gpus": 1, "num_cpus": 0}
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        if threads > most:
            raise BulkError(f"--threads {threads}: no machine has so many processors; the most is {most}")
        return sum(int(node.get("CPU", 0)) // threads for node in nodes), {"num_cpus": threads}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
