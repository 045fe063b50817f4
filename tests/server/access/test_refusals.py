"""What those are told who may not call, who is asked nothing, and what is counted and logged of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from access_tokens import FORBIDDEN, NEEDED, Metadata, TokenShelf, bearer
from grpc_health.v1 import health_pb2
from inference_requests import infer_request, stub_of
from refusal import refusal
from running_server import RunningServer, running_server

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve_server.access.tokens import make_token
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.errors import OptionError

VAE = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
LATENTS = np.zeros((2, 3), np.float32)


async def said(served: RunningServer, caller: Metadata, request: pb.SampleRequest = VAE) -> tuple[object, ...]:
    """All that a refused call tells but its request id."""
    error = await refusal(served.generation.Sample(request, metadata=caller))
    trailers = [(key, value) for key, value in error.trailing_metadata() or () if key != "x-request-id"]
    return error.code(), error.details(), trailers


@pytest.fixture
async def known(repository: Path, tokens: TokenShelf) -> AsyncIterator[tuple[RunningServer, str]]:
    """A server that knows one token, of a caller who may use "vae", and the token."""
    token = tokens.add("billing", "generate", "read", models=["vae"])
    tokens.add("former", expires="2020-01-01T00:00:00Z")
    async with running_server(repository, tokens=str(tokens.path), metrics_listen="127.0.0.1:0") as served:
        yield served, token


async def test_whatever_is_wrong_with_a_token_the_caller_is_told_the_same(
    known: tuple[RunningServer, str], tokens: TokenShelf
) -> None:
    served, token = known
    callers = {
        "missing": [()],
        "malformed": [(("authorization", f"Basic {token}"),), bearer("ls_x"), bearer(token) * 2, bearer("eyJ.a.b")],
        "unknown": [bearer(make_token().text)],
        "secret": [bearer(token[:-3] + "AAA"), bearer(token + "A")],
        "expired": [bearer(tokens.secrets["former"])],
    }
    for reason, wrong in callers.items():
        for caller in wrong:
            assert await said(served, caller) == (grpc.StatusCode.UNAUTHENTICATED, NEEDED, []), reason
        assert await served.metric("refused_callers_total", reason=reason) == len(wrong), reason
    assert await served.metric("caller_calls_total") == 0
    assert (await served.generation.Sample(VAE, metadata=bearer(token))).served.model == "vae"
    assert await served.metric("caller_calls_total", caller="billing", code="OK") == 1


async def test_a_model_that_is_forbidden_and_one_that_is_not_there_are_told_alike(
    known: tuple[RunningServer, str],
) -> None:
    served, token = known
    told = [
        await said(served, bearer(token), pb.SampleRequest(model=pb.ModelRef(name=name, **more), count=1))
        for name, more in (("colour", {}), ("made-up", {}), ("colour", {"version": 9}), ("made-up", {"alias": "x"}))
    ]
    assert told == [(grpc.StatusCode.PERMISSION_DENIED, FORBIDDEN, [])] * 4
    assert await served.metric("refused_callers_total", reason="model") == 4
    assert await served.metric("caller_calls_total", caller="billing", code="PERMISSION_DENIED") == 4
    own = await refusal(served.generation.Sample(VAE.__class__(model=pb.ModelRef(name="vae", version=9), count=1),
                                                 metadata=bearer(token)))  # fmt: skip
    assert own.code() is grpc.StatusCode.NOT_FOUND


async def test_lists_hold_the_callers_models_alone(known: tuple[RunningServer, str]) -> None:
    served, token = known
    listed = await served.models.ListModels(models_pb2.ListModelsRequest(), metadata=bearer(token))
    assert [model.name for model in listed.models] == ["vae"]


async def test_a_stream_of_inferences_refuses_request_by_request(known: tuple[RunningServer, str]) -> None:
    served, token = known
    names = ("vae", "colour", "made-up", "vae")
    requests = [infer_request(name, "latent", LATENTS) for name in names]
    stream = stub_of(served).ModelStreamInfer(iter(requests), metadata=bearer(token))
    answers = [answer async for answer in stream]
    assert [answer.error_message for answer in answers] == ["", FORBIDDEN, FORBIDDEN, ""]


async def test_health_asks_nobody_who_calls(known: tuple[RunningServer, str]) -> None:
    served, _ = known
    for caller in ((), bearer("wrong")):
        reply = await served.health.Check(health_pb2.HealthCheckRequest(), metadata=caller)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_log_has_the_caller_and_the_tokens_id(
    known: tuple[RunningServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    served, token = known
    caplog.set_level(logging.INFO)
    await served.generation.Sample(VAE, metadata=bearer(token))
    await said(served, bearer(token[:-3] + "AAA"))
    calls = [record.__dict__ for record in caplog.records if record.__dict__.get("method") == "Sample"]
    assert calls[0]["caller"] == "billing"
    assert (calls[1]["refused_for"], calls[1]["token"]) == ("secret", token.split("_")[1])


async def test_a_token_is_asked_for_before_its_call_takes_room(repository: Path, tokens: TokenShelf) -> None:
    """A caller without one who never sends a message would else hold the only place."""
    caller = tokens.caller("billing")
    async with running_server(repository, tokens=str(tokens.path), max_calls=1) as served:
        never = asyncio.Event()

        async def silence() -> AsyncIterator[bytes]:
            await never.wait()
            yield b""

        for _ in range(20):
            call = served.channel.stream_unary("/latentserve.v1.GenerationService/Sample")(silence())
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await served.generation.Sample(VAE, metadata=caller)).served.model == "vae"


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"jwt_keys": "http://issuer.example/keys", "jwt_issuer": "i", "jwt_audience": "a"}, "--jwt-keys"),
        ({"jwt_keys": "keys.json", "jwt_audience": "a"}, "--jwt-issuer"),
        ({"jwt_keys": "keys.json", "jwt_issuer": "i"}, "--jwt-audience"),
        ({"jwt_issuer": "i"}, "--jwt-issuer"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, str], option: str) -> None:
    with pytest.raises(OptionError) as refused:
        ServerConfig(repository="models", **options)  # type: ignore[arg-type]
    assert option in str(refused.value)
