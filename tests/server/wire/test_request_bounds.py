"""Requests of very many fields, and more bytes than are let in, are refused before they are parsed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from admin_server import AdminServer
from google.protobuf.descriptor_pb2 import FileOptions
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from held_graph import BACKSTOP_SECONDS
from inference_requests import infer_request, stub_of
from refusal import invalid, invalid_field, refusal
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.oip import inference_pb2 as oip
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve_server.wire.admission import FREE_BYTES

VAE = pb.ModelRef(name="vae")
LATENTS = np.zeros((2, 3), np.float32)
SEEDS = pb.Points(seeds=pb.Seeds(seeds=[1] * 10_000))
LONG = "x" * FREE_BYTES


def padded(size: int) -> bytes:
    """A field of so many bytes that no request of ours has."""
    return FileOptions(go_package="x" * size).SerializeToString()


def slow_request(size: int) -> bytes:
    """Latents whose decoding takes until it is cancelled, and so many bytes more."""
    latents = from_ndarray(np.full((1, 3), 1e5, np.float32))
    return pb.DecodeRequest(model=VAE, latents=latents).SerializeToString() + padded(size)


def tensors(count: int) -> oip.ModelInferRequest:
    request = infer_request("vae", "latent", LATENTS)
    for _ in range(count):
        request.inputs.add()
    return request


async def until(served: RunningServer, holds: Callable[[float], bool]) -> None:
    """Wait until the condition holds for the bytes under way."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not holds(await served.metric("request_bytes_in_flight")):
            pass


async def test_very_many_tensors_are_refused_by_a_call_and_by_a_stream(served: RunningServer) -> None:
    many = "inputs: there more than 64 times, which is what a request may have"
    stub = stub_of(served)
    assert await invalid(stub.ModelInfer(tensors(5000))) == many
    stream: Any = stub.ModelStreamInfer(iter([tensors(5000)]))
    assert await invalid(stream.read()) == many


async def test_very_many_seeds_and_files_and_long_texts_are_refused(served: RunningServer) -> None:
    ends = {"from": SEEDS, "to": SEEDS}
    seeds = served.generation.Interpolate(pb.InterpolateRequest(model=VAE, steps=2, **ends))
    assert await invalid(seeds) == "from.seeds.seeds: 10000 elements; at most 32 are allowed"
    images = pb.Images(encoded=pb.EncodedImages(files=[b""] * 5000))
    files = served.generation.Encode(pb.EncodeRequest(model=VAE, images=images))
    assert await invalid_field(files) == "images.encoded.files"
    named = served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="x" * 70_000), count=1))
    assert await invalid(named) == "model.name: 70000 bytes of text; 65536 are allowed"


async def test_as_many_files_as_a_call_may_have_rows_are_let_in(served: RunningServer) -> None:
    files = [b"not a picture" * 30] * 32
    request = pb.EncodeRequest(model=VAE, images=pb.Images(encoded=pb.EncodedImages(files=files)))
    assert await invalid_field(served.generation.Encode(request)) == "images.encoded.files[0]"


async def test_the_admin_listener_counts_fields_too(server: AdminServer) -> None:
    name = "x" * 70_000
    assert await invalid_field(server.admin.Load(models_pb2.LoadRequest(name=name, version=1))) == "name"


async def test_health_and_reflection_take_no_long_requests(served: RunningServer) -> None:
    allowed = "4096 are allowed"
    assert allowed in await invalid(served.health.Check(health_pb2.HealthCheckRequest(service=LONG)))
    watch = served.health.Watch(health_pb2.HealthCheckRequest(service=LONG))
    assert allowed in await invalid(watch.read())
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    stream = stub.ServerReflectionInfo()
    await stream.write(asked)
    assert (await stream.read()).list_services_response.service
    await stream.write(reflection_pb2.ServerReflectionRequest(file_by_filename=LONG))
    assert allowed in await invalid(stream.read())


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x05x"], ids=["no tag", "no text", "cut off"])
async def test_bytes_that_are_no_request_are_refused_by_every_service_without_a_traceback(
    server: AdminServer, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for channel, method in (
        (server.served.channel, "grpc.health.v1.Health/Check"),
        (server.served.channel, "grpc.health.v1.Health/Watch"),
        (server.served.channel, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
        (server.served.channel, "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
        (server.served.channel, "latentserve.v1.GenerationService/StreamSamples"),
        (server.served.channel, "inference.GRPCInferenceService/ModelStreamInfer"),
        (server.served.channel, "latentserve.v1.ModelService/GetModel"),
        (server.channel, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
        (server.channel, "latentserve.v1.ModelAdminService/Load"),
    ):
        call: Any = channel.stream_stream(f"/{method}")(iter([raw]))
        assert await invalid_field(call.read()) == "request"
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []


async def test_bytes_beyond_what_may_be_under_way_are_refused_and_let_in_later(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    mebibyte = {"max_message_bytes": 1 << 20, "max_queue_bytes": 1 << 20, "max_inflight_bytes": 1 << 20}
    async with running_server(tmp_path, metrics_listen="127.0.0.1:0", **mebibyte) as served:
        decode: Any = served.channel.unary_unary("/latentserve.v1.GenerationService/Decode")
        under_way = decode(slow_request(600_000))
        await until(served, lambda size: size >= 600_000)
        error = await refusal(decode(b"\xff" * 600_000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"]) >= 50
        assert await served.metric("requests_total", method="Decode", code="RESOURCE_EXHAUSTED") == 1
        under_way.cancel()
        await until(served, lambda size: size == 0)
        small = infer_request("vae", "latent", LATENTS).SerializeToString() + padded(600_000)
        await served.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(small)  # type: ignore[misc]


async def test_a_stream_counts_only_what_is_not_answered(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "vae" / "1")
    mebibyte = {"max_message_bytes": 1 << 20, "max_queue_bytes": 1 << 20, "max_inflight_bytes": 1 << 20}
    async with running_server(tmp_path, metrics_listen="127.0.0.1:0", **mebibyte) as served:
        stream: Any = served.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
        for _ in range(5):
            await stream.write(infer_request("vae", "latent", LATENTS).SerializeToString() + padded(700_000))
            answer = oip.ModelStreamInferResponse.FromString(await stream.read())
            assert not answer.error_message
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        await until(served, lambda size: size == 0)
