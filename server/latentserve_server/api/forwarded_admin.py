"""ModelAdminService in front of several workers: each change is made in all of them, and in those that come later."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from latentserve.v1 import models_pb2 as pb
from latentserve_server.errors import ChangeRefused, ShuttingDown, WorkerGone
from latentserve_server.repository.repository import CommandQueue
from latentserve_server.wire.exchange import Exchange

_logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Message)

_LEAVING = (WorkerGone, ShuttingDown)
"""What a worker says that has ended, or is about to: another one takes its place."""


class Peer(Protocol):
    """A worker that can be asked."""

    number: int

    async def ask(self, question: str, subject: Any = None) -> Any:
        """The answer of the worker.

        Raises:
            WorkerGone: it has ended. ShuttingDown: it is about to. LatentServeError: it refuses.
        """
        ...

    def tell(self, question: str) -> None:
        """Ask, and wait for no answer."""
        ...


class ForwardedAdmin:
    """Answers ModelAdminService by asking workers, one change after another.

    One worker makes a change ahead of the others. Where it refuses, nothing changes anywhere.
    """

    def __init__(self, peers: dict[int, Peer]) -> None:
        """`peers` will hold the workers that take calls, by their numbers: `join` adds to them."""
        self._peers = peers
        self._commands = CommandQueue()
        self._commands.start()
        self._made: dict[tuple[str, ...], tuple[str, Any]] = {}
        self._names = set[str]()

    async def close(self) -> None:
        """Refuse changes, and give up the one under way."""
        await self._commands.close()

    def is_model(self, name: str) -> bool:
        """Whether a model of this name was seen when a worker joined, or in a change."""
        return name in self._names

    async def join(self, peer: Peer) -> None:
        """Have a worker that has loaded its models take calls, once it has made the changes that still hold.

        Raises:
            LatentServeError: it cannot.
        """
        await self._commands.put(partial(self._join, peer))

    async def Load(self, request: pb.LoadRequest, context: Exchange) -> pb.LoadResponse:
        """Load a version."""
        return await self._change("Load", request, pb.LoadResponse)

    async def Unload(self, request: pb.UnloadRequest, context: Exchange) -> pb.UnloadResponse:
        """Take a version out of service."""
        return await self._change("Unload", request, pb.UnloadResponse)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Exchange) -> pb.SetAliasResponse:
        """Make or move an alias."""
        return await self._change("SetAlias", request, pb.SetAliasResponse)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Exchange) -> pb.DeleteAliasResponse:
        """Delete an alias."""
        return await self._change("DeleteAlias", request, pb.DeleteAliasResponse)

    async def Rescan(self, request: pb.RescanRequest, context: Exchange) -> pb.RescanResponse:
        """Scan the repository in every worker, and say where what they serve differs."""
        return await self._commands.put(partial(self._rescan, request))

    async def _change(self, method: str, request: Any, kind: type[R]) -> R:
        return await self._commands.put(partial(self._make, method, request, kind))

    async def _make(self, method: str, request: Any, kind: type[R]) -> R:
        first, reply, others = await self._ask_all(method, request, kind)
        self._note(method, request, reply)
        refusals = [f"worker {number}: {other}" for number, other in others.items() if isinstance(other, Exception)]
        if refusals:
            raise ChangeRefused(
                f"the workers differ now: worker {first} has made the change, and others have not; try again, or undo "
                f"it: {'; '.join(refusals)}"
            )
        return reply

    async def _rescan(self, request: pb.RescanRequest) -> pb.RescanResponse:
        first, reply, others = await self._ask_all("Rescan", request, pb.RescanResponse)
        self._names.update(model.name for model in reply.models)
        problems = list(reply.problems)
        for number, other in others.items():
            problems += [f"worker {number}: {problem}" for problem in _differences(other, reply, first)]
        return pb.RescanResponse(models=reply.models, problems=problems)

    async def _ask_all(
        self, method: str, request: Message, kind: type[R]
    ) -> tuple[int, R, Mapping[int, R | Exception]]:
        """The number and the reply of the worker that is ahead, and what the others make of it.

        Raises:
            LatentServeError: that one refuses, or there is no worker.
        """
        subject = method, text_of(request)
        for first, ahead in sorted(self._peers.items()):
            try:
                reply = await _ask(ahead, subject, kind)
            except _LEAVING:
                continue
            peers = [peer for number, peer in sorted(self._peers.items()) if number != first]
            others = await asyncio.gather(*(_attempt(peer, subject, kind) for peer in peers))
            return (
                first,
                reply,
                {peer.number: other for peer, other in zip(peers, others, strict=True) if other is not None},
            )
        raise WorkerGone("no worker takes calls now; try again")

    async def _join(self, peer: Peer) -> None:
        changes = [(method, text_of(request)) for method, request in await self._still_made()]
        models = _models(await peer.ask("join", changes))
        self._names.update(model.name for model in models)
        self._peers[peer.number] = peer

    def _note(self, method: str, request: Any, reply: Any) -> None:
        """Remember a change that whoever starts later would not find in the repository."""
        self._names.add(request.name)
        is_of_alias = method in ("SetAlias", "DeleteAlias")
        subject = (request.name, "alias", request.alias) if is_of_alias else (request.name, "version", request.version)
        self._made.pop(subject, None)
        if not (is_of_alias and reply.stored):
            self._made[subject] = method, request

    async def _still_made(self) -> list[tuple[str, Any]]:
        """The changes that still show in a worker; all of them where there is none to be asked."""
        for peer in list(self._peers.values()):
            try:
                models = _models(await peer.ask("models"))
            except _LEAVING:
                continue
            self._made = {key: change for key, change in self._made.items() if _shows(*change, models)}
            break
        return list(self._made.values())


async def _ask(peer: Peer, subject: tuple[str, str], kind: type[R]) -> R:
    return kind.FromString(base64.b64decode(await peer.ask("change", subject)))


async def _attempt(peer: Peer, subject: tuple[str, str], kind: type[R]) -> R | Exception | None:
    """The reply or the error of a worker; None where it leaves: another makes the change as it joins."""
    try:
        return await _ask(peer, subject, kind)
    except _LEAVING:
        return None
    except Exception as error:
        return error


def text_of(message: Message) -> str:
    """A message as workers are sent it, and send it."""
    return base64.b64encode(message.SerializeToString()).decode()


def _models(text: str) -> Sequence[pb.ModelStatus]:
    return pb.ListModelsResponse.FromString(base64.b64decode(text)).models


def _shows(method: str, request: Any, models: Sequence[pb.ModelStatus]) -> bool:
    """Whether what a worker serves is as the change made it."""
    of_model = [model for model in models if model.name == request.name]
    if method == "DeleteAlias":
        return all(request.alias not in model.aliases for model in of_model)
    found = [model for model in of_model if model.version == request.version]
    if method == "SetAlias":
        return any(request.alias in model.aliases for model in found)
    return any((model.state == pb.MODEL_STATE_READY) == (method == "Load") for model in found)


def _differences(other: pb.RescanResponse | Exception, reply: pb.RescanResponse, first: int) -> list[str]:
    """What a worker says of a scan otherwise than the first one."""
    if isinstance(other, Exception):
        return [str(other)]
    states = {(model.name, model.version): model.state for model in reply.models}
    differ = [
        f"{model.name} version {model.version} is {_state(model)}, unlike in worker {first}: {model.reason}".rstrip(
            ": "
        )
        for model in other.models
        if states.pop((model.name, model.version), None) != model.state
    ]
    missing = [f"{name} version {version} is not there, unlike in worker {first}" for name, version in states]
    return [*(problem for problem in other.problems if problem not in reply.problems), *differ, *missing]


def _state(model: pb.ModelStatus) -> str:
    return pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_")
