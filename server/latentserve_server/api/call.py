"""A call: the model that it names, leased or looked up, its deadline, and the timing in its reply."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from latentserve.contract import MAX_NAME_CHARACTERS
from latentserve.v1 import generation_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.batching.scheduling import WHENEVER, Scheduling, Timing
from latentserve_server.errors import InvalidArgument
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.wire.exchange import Exchange

_NEVER = float("inf")
_PRIORITIES = frozenset(pb.Priority.values())


class CallClock:
    """One call's times, on the monotonic clock, which the event loop keeps too."""

    def __init__(self, context: Exchange) -> None:
        remaining = context.time_remaining()
        self._began_ns = time.monotonic_ns()
        self._deadline = _NEVER if remaining is None else self._began_ns / 1e9 + remaining

    def scheduling(self, priority: pb.Priority) -> Scheduling:
        """The call's deadline and priority.

        Raises:
            InvalidArgument: there is no such priority.
        """
        if priority not in _PRIORITIES:
            raise InvalidArgument("priority", f"{priority} is not one of {', '.join(pb.Priority.keys())}")
        if self._deadline == _NEVER and priority != pb.PRIORITY_BULK:
            return WHENEVER
        return Scheduling(self._deadline, bulk=priority == pb.PRIORITY_BULK)

    def served(self, model: ServedModel, timing: Timing) -> pb.Served:
        """Who answered, and where the time went."""
        stated = pb.Timing(
            queue_ns=timing.queue_ns,
            compute_ns=timing.compute_ns,
            total_ns=time.monotonic_ns() - self._began_ns,
            batch_rows=timing.batch_rows,
        )
        identity = model.identity
        return pb.Served(model=identity.name, version=identity.version, timing=stated, numerics=identity.numerics)


def model_of(request: Any, is_model: Callable[[str], bool]) -> str:
    """The model that a request is for; empty where it is for none, or for none of the repository's."""
    name = str(getattr(getattr(request, "model", request), "name", ""))
    return name if is_model(name) else ""


def lease(repository: Repository, ref: generation_pb2.ModelRef) -> AbstractContextManager[ServedModel]:
    """The model that a request names, for as long as the block that answers it: the model stays open that long.

    Raises:
        InvalidArgument: the reference is malformed. ModelNotFound, ModelNotReady: as the repository says, on entry.
    """
    version, alias = _selector(ref)
    return repository.lease(ref.name, version, alias)


def resolve(repository: Repository, ref: generation_pb2.ModelRef) -> ServedModel:
    """The model that a request names, to be described; a call that it is to answer takes a `lease`.

    Raises:
        InvalidArgument: the reference is malformed. ModelNotFound, ModelNotReady: as the repository says.
    """
    version, alias = _selector(ref)
    return repository.get(ref.name, version, alias)


def _selector(ref: generation_pb2.ModelRef) -> tuple[int | None, str | None]:
    """The version and the alias that a reference, which is well formed, selects by."""
    name = ref.name
    if not name:
        raise InvalidArgument("model.name", "is empty; name a model")
    _check_length("name", name)
    match ref.WhichOneof("selector"):
        case None:
            return None, None
        case "version":
            if ref.version < 1:
                raise InvalidArgument("model.version", f"{ref.version}; versions are at least 1")
            return ref.version, None
        case _:
            _check_length("alias", ref.alias)
            return None, ref.alias


def _check_length(field: str, value: str) -> None:
    if len(value) > MAX_NAME_CHARACTERS:  # errors repeat it, and a status holds no more than a few kilobytes
        raise InvalidArgument(f"model.{field}", f"is over {MAX_NAME_CHARACTERS} characters long")
