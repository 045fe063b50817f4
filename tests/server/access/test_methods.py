"""Every method of every service: who may call it, and that it looks at the model which a request names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from access_tokens import FORBIDDEN, NEEDED, Metadata, TokenShelf
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from refusal import refusal
from running_server import channel_to, running_server

from latentserve.oip import inference_pb2
from latentserve.v1 import generation_pb2, models_pb2

NOBODY: frozenset[str] = frozenset()
EVERYBODY = frozenset({"", "generate", "read", "admin"})
"""Also who has no token."""
READERS = frozenset({"generate", "read"})
GENERATORS = frozenset({"generate"})
ADMINISTRATORS = frozenset({"admin"})
ADMIN = "latentserve.v1.ModelAdminService"
INFERENCE = "inference.GRPCInferenceService"

MAY_CALL = {
    "latentserve.v1.GenerationService/Sample": GENERATORS,
    "latentserve.v1.GenerationService/StreamSamples": GENERATORS,
    "latentserve.v1.GenerationService/Encode": GENERATORS,
    "latentserve.v1.GenerationService/Decode": GENERATORS,
    "latentserve.v1.GenerationService/Reconstruct": GENERATORS,
    "latentserve.v1.GenerationService/Interpolate": GENERATORS,
    "latentserve.v1.GenerationService/Traverse": GENERATORS,
    "latentserve.v1.GenerationService/Score": GENERATORS,
    "latentserve.v1.ModelService/ListModels": READERS,
    "latentserve.v1.ModelService/GetModel": READERS,
    f"{ADMIN}/Load": ADMINISTRATORS,
    f"{ADMIN}/Unload": ADMINISTRATORS,
    f"{ADMIN}/SetAlias": ADMINISTRATORS,
    f"{ADMIN}/DeleteAlias": ADMINISTRATORS,
    f"{ADMIN}/Rescan": ADMINISTRATORS,
    f"{INFERENCE}/ServerLive": EVERYBODY,
    f"{INFERENCE}/ServerReady": EVERYBODY,
    f"{INFERENCE}/ModelReady": READERS,
    f"{INFERENCE}/ServerMetadata": READERS,
    f"{INFERENCE}/ModelMetadata": READERS,
    f"{INFERENCE}/ModelInfer": GENERATORS,
    f"{INFERENCE}/ModelStreamInfer": GENERATORS,
    f"{INFERENCE}/ModelConfig": READERS,
    f"{INFERENCE}/ModelStatistics": READERS,
    f"{INFERENCE}/RepositoryIndex": READERS,
    f"{INFERENCE}/RepositoryModelLoad": ADMINISTRATORS,
    f"{INFERENCE}/RepositoryModelUnload": ADMINISTRATORS,
    "grpc.health.v1.Health/Check": EVERYBODY,
    "grpc.health.v1.Health/List": EVERYBODY,
    "grpc.health.v1.Health/Watch": EVERYBODY,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": EVERYBODY,
}
"""By the method, the scopes of which one is enough; "" for no token."""


def services() -> Iterator[ServiceDescriptor]:
    """Every service that the server answers."""
    for module in (generation_pb2, models_pb2, inference_pb2, health_pb2, reflection_pb2):
        yield from module.DESCRIPTOR.services_by_name.values()


METHODS: dict[str, Any] = {
    f"{service.full_name}/{method.name}": method for service in services() for method in service.methods
}


class Outcome(NamedTuple):
    code: grpc.StatusCode
    details: str


class Guarded(NamedTuple):
    """A server that knows callers, by the listener, and a caller for each scope."""

    main: grpc.aio.Channel
    admin: grpc.aio.Channel
    callers: dict[str, Metadata]

    async def outcome(self, path: str, request: Any, caller: Metadata) -> Outcome:
        """How a call ends; of a stream of replies how it begins."""
        method = METHODS[path]
        channel = self.admin if path.startswith(ADMIN) else self.main
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        make: Any = getattr(channel, kind)(
            f"/{path}", type(request).SerializeToString, GetMessageClass(method.output_type).FromString
        )
        call = make(iter([request]) if method.client_streaming else request, metadata=caller, timeout=60)
        try:
            reply = await (call.read() if method.server_streaming else call)
        except grpc.aio.AioRpcError as error:
            return Outcome(error.code(), error.details() or "")
        if reply is not grpc.aio.EOF:
            call.cancel()
            in_band = getattr(reply, "error_message", "")
            status = reply.infer_response.parameters["status_code"].string_param if in_band else "OK"
            return Outcome(grpc.StatusCode[status], in_band)
        return Outcome(await call.code(), await call.details())


@pytest.fixture
async def guarded(repository: Path, tokens: TokenShelf) -> AsyncIterator[Guarded]:
    callers = {scope: tokens.caller(scope, scope) for scope in ("generate", "read", "admin")}
    callers |= {f"{scope} of vae": tokens.caller(f"{scope}-vae", scope, models=["vae"]) for scope in callers}
    async with running_server(repository, tokens=str(tokens.path), admin_listen="127.0.0.1:0") as served:
        async with channel_to(served.server.admin_port) as admin:
            yield Guarded(served.channel, admin, {"": ()} | callers)


def test_the_table_has_every_method() -> None:
    assert MAY_CALL.keys() == METHODS.keys(), "say who may call a new method, here and in access/demands.py"


async def test_a_method_is_for_those_who_have_its_scope_alone(guarded: Guarded) -> None:
    for path, may_call in MAY_CALL.items():
        for scope in ("", "generate", "read", "admin"):
            outcome = await guarded.outcome(path, request_of(METHODS[path]), guarded.callers[scope])
            if scope in may_call:
                assert outcome.code is not grpc.StatusCode.UNAUTHENTICATED, (path, scope)
                assert outcome.details != FORBIDDEN, (path, scope)
            elif scope:
                assert outcome == (grpc.StatusCode.PERMISSION_DENIED, FORBIDDEN), (path, scope)
            else:
                assert outcome == (grpc.StatusCode.UNAUTHENTICATED, NEEDED), path


def request_of(method: MethodDescriptor, model: str = "") -> Any:
    """A request of the method, for a model where it can name one."""
    request = GetMessageClass(method.input_type)()
    fields: Any = request
    if "model" in method.input_type.fields_by_name:
        fields.model.name = model
    for field in ("model_name", "name"):
        if field in method.input_type.fields_by_name:
            setattr(request, field, model)
    return request


NAMING = [
    path
    for path, method in METHODS.items()
    if {"model", "model_name", "name"} & set(method.input_type.fields_by_name) and MAY_CALL[path] != EVERYBODY
]


@pytest.mark.parametrize("model", ["colour", "made-up", "colour.encoder", "vae.encoder.encoder", "VAE", "v" * 2000])
async def test_a_model_is_for_those_who_may_use_it_alone_be_there_one_or_not(guarded: Guarded, model: str) -> None:
    assert len(NAMING) > 15
    for path in NAMING:
        (scope, *_) = MAY_CALL[path]
        request = request_of(METHODS[path], model)
        refused = await guarded.outcome(path, request, guarded.callers[f"{scope} of vae"])
        assert refused == (grpc.StatusCode.PERMISSION_DENIED, FORBIDDEN), path


async def test_a_model_of_the_callers_own_is_let_through(guarded: Guarded) -> None:
    for path in NAMING:
        if path.startswith(ADMIN):
            continue
        (scope, *_) = MAY_CALL[path]
        names = ("vae", "vae.encoder", "vae.reconstruct") if path.startswith(INFERENCE) else ("vae",)
        for name in names:
            outcome = await guarded.outcome(path, request_of(METHODS[path], name), guarded.callers[f"{scope} of vae"])
            assert outcome.details != FORBIDDEN, (path, name)


async def test_who_may_administer_some_models_does_not_rescan_all(guarded: Guarded) -> None:
    rescan = f"{ADMIN}/Rescan"
    refused = await guarded.outcome(rescan, models_pb2.RescanRequest(), guarded.callers["admin of vae"])
    assert refused == (grpc.StatusCode.PERMISSION_DENIED, FORBIDDEN)
    load = models_pb2.LoadRequest(name="vae", version=1)
    assert (await guarded.outcome(f"{ADMIN}/Load", load, guarded.callers["admin of vae"])).code is grpc.StatusCode.OK


async def test_without_reflection_nobody_is_told_of_the_services(repository: Path, tokens: TokenShelf) -> None:
    caller = tokens.caller("all", "generate", "read", "admin")
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    options = {"tokens": str(tokens.path), "reflection": False, "admin_listen": "127.0.0.1:0"}
    async with running_server(repository, **options) as served, channel_to(served.server.admin_port) as admin:
        for channel in (served.channel, admin):
            error = await refusal(channel.unary_unary(path)(b"", metadata=caller))  # type: ignore[misc]
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_of_which_nothing_is_said_is_for_nobody() -> None:
    from latentserve_server.access.caller import Caller, Scope
    from latentserve_server.access.demands import check_scope
    from latentserve_server.errors import NotPermitted

    with pytest.raises(NotPermitted):
        check_scope(Caller("all", frozenset(Scope)), None)
