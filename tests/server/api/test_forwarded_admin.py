"""A change in front of several workers: one is ahead, the others follow, and those that come later catch up."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from latentserve.v1 import models_pb2 as pb
from latentserve_server.api.forwarded_admin import ForwardedAdmin, Peer
from latentserve_server.errors import ChangeRefused, LatentServeError, ModelNotFound, ShuttingDown, WorkerGone

LOAD, UNLOAD = pb.LoadRequest(name="vae", version=1), pb.UnloadRequest(name="vae", version=2)
UNSTORED = pb.SetAliasRequest(name="vae", alias="unstored", version=2)
_ADMIN = pb.DESCRIPTOR.services_by_name["ModelAdminService"]


class RecordingPeer:
    """A worker that keeps the changes that it is asked for, and answers as it is told."""

    def __init__(self, number: int, made: list[str]) -> None:
        self.number = number
        self.error: LatentServeError | None = None
        self.replies: dict[str, Any] = {"Load": pb.LoadResponse(), "Unload": pb.UnloadResponse()}
        self.models = pb.ListModelsResponse(models=[pb.ModelStatus(name="vae", version=each) for each in (1, 2)])
        self.joined_with: list[str] = []
        self.asked: Callable[[], object] = lambda: None
        """Called whenever it is asked something."""
        self._made = made

    async def ask(self, question: str, subject: Any = None) -> Any:
        self.asked()
        if self.error is not None:
            raise self.error
        if question == "change":
            self._made.append(f"{self.number}: {shown(subject)}")
            return base64.b64encode(self.replies[subject[0]].SerializeToString()).decode()
        if question == "join":
            self.joined_with = [shown(change) for change in subject]
        return base64.b64encode(self.models.SerializeToString()).decode()

    def tell(self, question: str) -> None:
        raise AssertionError(question)


def shown(change: tuple[str, str]) -> str:
    """A change in words."""
    method, text = change
    request: Any = GetMessageClass(_ADMIN.methods_by_name[method].input_type).FromString(base64.b64decode(text))
    words = [method, *(str(getattr(request, name)) for name in ("alias", "version") if hasattr(request, name))]
    return " ".join(words)


class Workers:
    """Two workers, and the service in front of them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.peers: dict[int, Peer] = {}
        self.admin = ForwardedAdmin(self.peers)
        self.first, self.second = self.new(1), self.new(2)

    def new(self, number: int) -> RecordingPeer:
        return RecordingPeer(number, self.made)

    async def change(self, method: str, request: Any) -> Any:
        return await getattr(self.admin, method)(request, None)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers()
    await workers.admin.join(workers.second)
    await workers.admin.join(workers.first)
    yield workers
    await workers.admin.close()


async def test_one_worker_is_ahead_and_the_others_follow(workers: Workers) -> None:
    workers.first.replies["Load"] = pb.LoadResponse(model=pb.ModelStatus(reason="the first one's"))
    assert (await workers.change("Load", LOAD)).model.reason == "the first one's"
    assert workers.made == ["1: Load 1", "2: Load 1"]


async def test_where_the_first_refuses_nothing_changes(workers: Workers) -> None:
    workers.first.error = ModelNotFound("there is none")
    with pytest.raises(ModelNotFound, match=r"^there is none$"):
        await workers.change("Load", LOAD)
    assert workers.made == []


async def test_where_another_refuses_that_is_said(workers: Workers) -> None:
    workers.second.error = ChangeRefused("no memory")
    with pytest.raises(ChangeRefused, match=r"workers differ now: worker 1 has made the change.*worker 2: no memory"):
        await workers.change("Load", LOAD)


async def test_a_worker_that_has_ended_is_passed_over(workers: Workers) -> None:
    workers.first.error = WorkerGone("worker 1 has ended")
    await workers.change("Load", LOAD)
    assert workers.made == ["2: Load 1"]
    workers.second.error = WorkerGone("worker 2 has ended")
    with pytest.raises(WorkerGone, match="no worker takes calls now"):
        await workers.change("Load", LOAD)


async def test_a_worker_that_is_gone_when_its_turn_comes_is_passed_over(workers: Workers) -> None:
    workers.first.error, workers.second.error = WorkerGone("worker 1 has ended"), WorkerGone("worker 2 has ended")
    workers.first.asked = lambda: workers.peers.pop(2, None)  # both end at a time, and the supervisor notes that
    with pytest.raises(WorkerGone, match="no worker takes calls now"):
        await workers.change("Load", LOAD)


async def test_a_worker_that_is_stopping_is_passed_over(workers: Workers) -> None:
    workers.first.error = ShuttingDown("the server is stopping")
    await workers.change("Load", LOAD)
    assert workers.made == ["2: Load 1"]
    workers.first.error, workers.second.error = None, ShuttingDown("the server is stopping")
    await workers.change("Unload", UNLOAD)
    assert workers.made == ["2: Load 1", "1: Unload 2"]


async def test_a_worker_that_comes_later_makes_what_the_repository_does_not_say(workers: Workers) -> None:
    stored = pb.SetAliasRequest(name="vae", alias="stored", version=1)
    await workers.change("Load", LOAD)
    await workers.change("Unload", UNLOAD)
    for request in (UNSTORED, stored):
        for peer in (workers.first, workers.second):
            peer.replies["SetAlias"] = pb.SetAliasResponse(stored=request is stored)
        await workers.change("SetAlias", request)
    workers.first.models.models[0].state = pb.MODEL_STATE_READY
    workers.first.models.models[1].aliases[:] = ["unstored"]
    workers.second.models.CopyFrom(workers.first.models)
    third = workers.new(3)
    await workers.admin.join(third)
    assert third.joined_with == ["Load 1", "Unload 2", "SetAlias unstored 2"]


async def test_what_still_holds_is_not_asked_of_a_worker_that_is_stopping(workers: Workers) -> None:
    await workers.change("Load", LOAD)
    workers.second.error = ShuttingDown("the server is stopping")
    workers.first.models.models[0].state = pb.MODEL_STATE_READY
    third = workers.new(3)
    await workers.admin.join(third)
    assert third.joined_with == ["Load 1"]


async def test_a_change_that_has_been_overtaken_is_not_made_again(workers: Workers) -> None:
    for peer in (workers.first, workers.second):
        peer.replies["SetAlias"] = pb.SetAliasResponse(stored=False)
    await workers.change("SetAlias", UNSTORED)
    await workers.change("Unload", UNLOAD)
    ready = pb.ModelStatus(name="vae", version=2, state=pb.MODEL_STATE_READY)  # again, and the alias is gone
    workers.second.models.CopyFrom(pb.ListModelsResponse(models=[ready]))
    third = workers.new(3)
    await workers.admin.join(third)
    assert third.joined_with == []


async def test_a_rescan_says_what_differs(workers: Workers) -> None:
    ready = pb.ModelStatus(name="vae", version=1, state=pb.MODEL_STATE_READY)
    broken = pb.ModelStatus(name="vae", version=1, state=pb.MODEL_STATE_UNAVAILABLE, reason="no memory")
    workers.first.replies["Rescan"] = pb.RescanResponse(models=[ready], problems=["p"])
    workers.second.replies["Rescan"] = pb.RescanResponse(models=[broken], problems=["p", "q"])
    reply = await workers.change("Rescan", pb.RescanRequest())
    assert list(reply.models) == [ready]
    differs = "worker 2: vae version 1 is UNAVAILABLE, unlike in worker 1: no memory"
    assert list(reply.problems) == ["p", "worker 2: q", differs]
