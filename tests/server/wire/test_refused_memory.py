"""Calls that fail leave nothing of their requests in memory, without the collector's help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileOptions
from inference_requests import infer_request
from tiny_bundle import TinyModel
from tiny_graph import FRAGILE_LIMIT
from uncollected_server import SUPPORTED, uncollected_server

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import tensor_pb2

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="the C library does not say how much memory is in use")

SIZE = 4 << 20
"""Bytes of each request, about."""
CALLS = 24
SLACK = 4 * SIZE
"""What gRPC's own buffers may hold more than before; the requests of all calls are six times that."""
ROWS = 4096

JUNK = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[1], data=bytes(SIZE))
IMAGES = pb.Images(tensor=from_ndarray(np.zeros((ROWS, 1, 16, 16), np.float32)))
FATAL = np.full((ROWS, 256), FRAGILE_LIMIT, np.float32)
GENERATION, INFERENCE = "/latentserve.v1.GenerationService", "/inference.GRPCInferenceService"

Call = Callable[[grpc.aio.Channel], Awaitable[Any]]


def unary(method: str, request: Any, **options: Any) -> Call:
    raw = request if isinstance(request, bytes) else request.SerializeToString()

    async def call(channel: grpc.aio.Channel) -> None:
        stub: Any = channel.unary_unary(method)
        await stub(raw, **options)

    return call


def stream(method: str, *requests: Any, **options: Any) -> Call:
    raws = [request if isinstance(request, bytes) else request.SerializeToString() for request in requests]

    async def call(channel: grpc.aio.Channel) -> None:
        one = method.startswith(GENERATION)
        stub: Any = channel.unary_stream(method) if one else channel.stream_stream(method)
        answers = stub(raws[0] if one else iter(raws), **options)
        async for _ in answers:
            pass

    return call


def crowd(method: str, request: Any) -> Call:
    one = unary(method, request)

    async def call(channel: grpc.aio.Channel) -> None:
        await asyncio.gather(*[one(channel) for _ in range(6)], return_exceptions=True)

    return call


def encode(name: str, images: pb.Images) -> pb.EncodeRequest:
    return pb.EncodeRequest(model=pb.ModelRef(name=name), images=images)


SLOW = pb.DecodeRequest(model={"name": "slow"}, latents=from_ndarray(np.full((ROWS, 256), 3e4, np.float32)))
FILES = pb.Images(encoded=pb.EncodedImages(files=[bytes(SIZE)]))
POINTS = {"from": pb.Points(latents=JUNK), "to": pb.Points(latents=JUNK)}
CHUNKS = pb.StreamSamplesRequest(
    model={"name": "fragile"}, count=1024, chunk_rows=512, shaping=pb.Shaping(temperature=4)
)
UNKNOWN = FileOptions(go_package="x" * SIZE).SerializeToString()
"""A field of a number that no request of ours has."""
INFER = infer_request("wide.encoder", "image", np.zeros((ROWS, 1, 16, 16), np.float32))

REFUSED = {
    "malformed tensor": unary(f"{GENERATION}/Encode", encode("wide", pb.Images(tensor=JUNK))),
    "no such model": unary(f"{GENERATION}/Encode", encode("nope", pb.Images(tensor=JUNK))),
    "no encoder": unary(f"{GENERATION}/Encode", encode("fragile", IMAGES)),
    "file": unary(f"{GENERATION}/Encode", encode("wide", FILES)),
    "score": unary(f"{GENERATION}/Score", pb.ScoreRequest(model={"name": "wide"}, images=pb.Images(tensor=JUNK))),
    "points": unary(f"{GENERATION}/Interpolate", pb.InterpolateRequest(model={"name": "wide"}, steps=2, **POINTS)),
    "no message": unary(f"{GENERATION}/Sample", b"\xff" * SIZE),
    "graph that fails": unary(
        f"{GENERATION}/Decode", pb.DecodeRequest(model={"name": "fragile"}, latents=from_ndarray(FATAL))
    ),
    "too many fields": unary(f"{INFERENCE}/ModelInfer", b"\x2a\x00" * (SIZE // 2)),
    "health": unary("/grpc.health.v1.Health/Check", b"\xff" * SIZE),
    "reflection": stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"\xff" * SIZE),
    "deadline": unary(f"{GENERATION}/Decode", SLOW, timeout=0.05),
    "full queue": crowd(f"{GENERATION}/Encode", encode("wide", IMAGES)),
    "tensor of another protocol": unary(f"{INFERENCE}/ModelInfer", infer_request("wide", "latent", FATAL)),
    "no message of a server's stream": stream(f"{GENERATION}/StreamSamples", b"\xff" * SIZE),
    "chunk that fails": stream(f"{GENERATION}/StreamSamples", CHUNKS.SerializeToString() + UNKNOWN),
    "no message in a stream": stream(f"{INFERENCE}/ModelStreamInfer", b"\xff" * SIZE),
    "refusal within a stream": stream(f"{INFERENCE}/ModelStreamInfer", infer_request("wide", "latent", FATAL)),
    "deadline of a stream": stream(f"{INFERENCE}/ModelStreamInfer", *[INFER] * 4, timeout=0.02),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    TinyModel(height=16, width=16).write(root / "wide" / "1")
    TinyModel(kind="gan", fragile=True, latent_dim=256).write(root / "fragile" / "1")
    TinyModel(kind="gan", slow=True, latent_dim=256).write(root / "slow" / "1")
    return root


async def call_often(call: Call, times: int, channel: grpc.aio.Channel) -> None:
    for _ in range(times):
        await asyncio.gather(call(channel), return_exceptions=True)


async def test_nothing_of_a_refused_request_stays_in_memory(repository: Path) -> None:
    async with uncollected_server(repository) as server:
        for kind, call in REFUSED.items():
            await call_often(call, 2, server.channel)
            before = await server.bytes_in_use()
            await call_often(call, CALLS, server.channel)
            assert await server.falls_to(before + SLACK), kind
