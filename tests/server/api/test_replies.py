"""What every reply carries beside its numbers: who answered, how long it took, and the request's id."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
import numpy as np
import pytest
from relay import relay_to
from running_server import RunningServer, channel_to
from tested_device import device

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2
from latentserve_server.latent.noise import NOISE_SCHEME

VAE = pb.ModelRef(name="vae")
IMAGES = pb.Images(tensor=from_ndarray(np.zeros((20, 1, 4, 5), np.uint8)))
REQUESTS: list[Any] = [
    pb.SampleRequest(model=VAE, count=20),
    pb.EncodeRequest(model=VAE, images=IMAGES, draw=pb.Draw(seed=1)),
    pb.DecodeRequest(model=VAE, latents=from_ndarray(np.zeros((20, 3), np.float32))),
    pb.ReconstructRequest(model=VAE, images=IMAGES),
]


def method_of(served: RunningServer, request: Any) -> Any:
    return getattr(served.generation, type(request).__name__.removesuffix("Request"))


def request_id_of(metadata: Any) -> str:
    return str(dict(metadata)["x-request-id"])


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
async def test_a_reply_says_who_answered_and_where_the_time_went(served: RunningServer, request_: Any) -> None:
    began = asyncio.get_running_loop().time()
    replies = await asyncio.gather(*(method_of(served, request_)(request_) for _ in range(3)))
    elapsed_ns = (asyncio.get_running_loop().time() - began) * 1e9
    for reply in replies:
        assert (reply.served.model, reply.served.version) == ("vae", 1)
        timing = reply.served.timing
        assert timing.queue_ns >= 0
        assert timing.compute_ns > 0
        assert timing.queue_ns + timing.compute_ns <= timing.total_ns <= elapsed_ns


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
async def test_a_request_id_comes_back(served: RunningServer, request_: Any) -> None:
    call = method_of(served, request_)(request_, metadata=[("x-request-id", "job-17/row 3")])
    await call
    assert request_id_of(await call.trailing_metadata()) == "job-17/row 3"


async def test_a_request_id_is_made_up_where_there_is_none_and_is_new_each_time(served: RunningServer) -> None:
    made_up = set()
    for _ in range(3):
        call = served.generation.Sample(REQUESTS[0])
        await call
        made_up.add(request_id_of(await call.trailing_metadata()))
    assert len(made_up) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made_up)


async def test_an_error_carries_the_request_id_too(served: RunningServer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.generation.Sample(pb.SampleRequest(model=VAE), metadata=[("x-request-id", "mine")])
    assert request_id_of(caught.value.trailing_metadata()) == "mine"


async def test_a_request_id_is_cut_to_128_characters(served: RunningServer) -> None:
    call = served.generation.Sample(REQUESTS[0], metadata=[("x-request-id", "a" * 200)])
    await call
    assert request_id_of(await call.trailing_metadata()) == "a" * 128


@pytest.mark.parametrize("odd", [b"caf\xc3\xa9", b"abc\xff\xfe", b"abc\x01", b"a\tb\r\n", b"\x7fabc"], ids=ascii)
async def test_a_request_id_that_is_not_printable_ascii_is_replaced(served: RunningServer, odd: bytes) -> None:
    async with relay_to(served.server.port) as relay, channel_to(relay.port) as channel:
        relay.said, relay.heard = b"@" * len(odd), odd  # gRPC's own clients refuse to send it
        call = generation_pb2_grpc.GenerationServiceStub(channel).Sample(
            REQUESTS[0], metadata=[("x-request-id", relay.said.decode())]
        )
        assert (await call).served.model == "vae"
        assert re.fullmatch(r"[0-9a-f]{32}", request_id_of(await call.trailing_metadata()))


async def test_a_description_says_what_may_be_asked(served: RunningServer) -> None:
    vae, gan = [
        (await served.models.GetModel(models_pb2.GetModelRequest(model=pb.ModelRef(name=name)))).model
        for name in ("vae", "gan")
    ]
    sample, encode, decode, reconstruct, score = models_pb2.Capability.values()[1:]
    assert list(vae.capabilities) == [sample, encode, decode, reconstruct, score]
    assert list(gan.capabilities) == [sample, decode]
    assert (vae.name, vae.version, vae.device, vae.noise_scheme) == ("vae", 1, device(), NOISE_SCHEME)
    assert vae.limits == models_pb2.Limits(
        max_rows_per_request=32, max_batch_rows=8, max_queue_rows=64, max_message_bytes=64 << 20
    )
    assert (vae.manifest.latent.dim, vae.manifest.image.width) == (3, 5)
    assert re.fullmatch("[0-9a-f]{64}", vae.digest)
    assert vae.digest != gan.digest


async def test_the_list_has_every_model_in_order(served: RunningServer) -> None:
    listed = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
    assert [(one.name, one.version, one.state, one.reason, one.is_default) for one in listed] == [
        (name, 1, models_pb2.MODEL_STATE_READY, "", True) for name in ("colour", "gan", "vae")
    ]
    assert [len(one.capabilities) for one in listed] == [5, 2, 5]
