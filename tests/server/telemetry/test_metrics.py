"""What a scrape shows after calls."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import numpy as np
import pytest
from certificates import LOCAL, Authority, tls_options
from grpc_health.v1 import health_pb2
from running_server import RunningServer, running_server, scrape
from tested_device import device
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2

VAE = pb.ModelRef(name="vae")
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    async with running_server(repository, max_batch_rows=8, metrics_listen="127.0.0.1:0") as server:
        yield server


async def fail(call: Awaitable[object]) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_calls_are_counted_by_method_model_and_code(served: RunningServer) -> None:
    await asyncio.gather(*(served.generation.Sample(pb.SampleRequest(model=VAE, count=1)) for _ in range(5)))
    await fail(served.generation.Sample(pb.SampleRequest(model=VAE, count=0)))
    await fail(served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae", version=9), count=1)))
    await fail(served.generation.Encode(pb.EncodeRequest(model=VAE)))
    await served.models.ListModels(models_pb2.ListModelsRequest())
    for code, calls in (("OK", 5), ("INVALID_ARGUMENT", 1), ("NOT_FOUND", 1), ("INTERNAL", 0)):
        assert await served.metric("requests_total", method="Sample", model="vae", code=code) == calls
    assert await served.metric("requests_total", method="Encode", code="INVALID_ARGUMENT") == 1
    assert await served.metric("requests_total", method="ListModels", model="", code="OK") == 1
    assert await served.metric("requests_total") == 9
    assert await served.metric("request_duration_seconds_count", method="Sample", model="vae") == 7
    assert await served.metric("requests_in_flight") == 0


async def test_failures_are_counted_from_0(served: RunningServer) -> None:
    await served.generation.Sample(pb.SampleRequest(model=VAE, count=1))
    page = await asyncio.to_thread(scrape, served.server.metrics_port)
    for code in ("UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
        assert f'latentserve_requests_total{{code="{code}",method="Sample",model="vae"}} 0.0' in page


async def test_an_answer_after_its_deadline_is_no_success(tmp_path: Path) -> None:
    TinyModel(slow=True).write(tmp_path / "vae" / "1")
    some_milliseconds = np.array([[1500, 0, 0]], np.float32)
    call = pb.DecodeRequest(model=VAE, latents=from_ndarray(some_milliseconds))
    codes: Counter[str] = Counter()
    async with running_server(tmp_path, metrics_listen="127.0.0.1:0") as served:
        await served.generation.Decode(call)
        for _ in range(20):
            try:
                await served.generation.Decode(call, timeout=0.005)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
        await served.generation.Decode(call)  # the last of the others has ended before
        assert codes.keys() <= {"OK", "DEADLINE_EXCEEDED"}
        assert await served.metric("requests_total", code="OK") == 2 + codes["OK"]
        late = await served.metric("requests_total", code="DEADLINE_EXCEEDED")
        assert late <= codes["DEADLINE_EXCEEDED"]  # one that its caller gave up may never have come


async def test_batches_are_counted_in_rows_of_each_graph(served: RunningServer) -> None:
    images = pb.Images(tensor=from_ndarray(np.zeros((5, 1, 4, 5), np.uint8)))
    await served.generation.Sample(pb.SampleRequest(model=VAE, count=20))
    await served.generation.Reconstruct(pb.ReconstructRequest(model=VAE, images=images))
    decoder = {"model": "vae", "version": "1", "graph": "decoder"}
    reconstruct = decoder | {"graph": "reconstruct"}
    assert await served.metric("batch_rows_sum", **decoder) == 20
    assert await served.metric("batch_rows_count", **decoder) == 3  # 8, 8 and 4 rows
    assert await served.metric("batch_rows_sum", **reconstruct) == 5
    assert await served.metric("queue_duration_seconds_count", **decoder) == 1
    assert await served.metric("compute_duration_seconds_count", **decoder) == 3
    assert await served.metric("compute_duration_seconds_count", **reconstruct) == 1
    assert 0 < await served.metric("compute_duration_seconds_sum", **decoder) < 60
    assert await served.metric("queue_rows") == 0
    assert await served.metric("batch_rows_sum", model="gan") == 0


async def test_a_name_that_is_no_model_does_not_become_a_label(served: RunningServer) -> None:
    for name in ("made-up", "made-up-too"):
        await fail(served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name=name), count=1)))
    assert await served.metric("requests_total", model="", code="NOT_FOUND") == 2
    assert "made-up" not in await asyncio.to_thread(scrape, served.server.metrics_port)


async def test_the_models_and_the_build_are_told(served: RunningServer) -> None:
    described = await served.models.GetModel(models_pb2.GetModelRequest(model=VAE))
    assert (
        await served.metric("model_info", model="vae", version="1", digest=described.model.digest, device=device()) == 1
    )
    assert await served.metric("model_info") == 3
    assert await served.metric("build_info", device=device()) == 1


@pytest.mark.cpu_only("on CUDA the buffers of every batch size are counted")
async def test_the_memory_of_a_model_is_told(served: RunningServer, repository: Path, vae: TinyModel) -> None:
    values = {"encoder": vae.pixels + 2 * vae.latent_dim, "decoder": vae.latent_dim + 2 * vae.pixels}
    counted = {
        graph: (repository / "vae" / "1" / f"{graph}.onnx").stat().st_size + 8 * (4 * floats)
        for graph, floats in values.items()
    }
    counted["decoder"] += 8 * vae.pixels  # as bytes
    for graph, memory in counted.items():
        assert await served.metric("graph_memory_bytes", model="vae", version="1", graph=graph) == memory
    listed = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
    (status,) = [one for one in listed if one.name == "vae"]
    assert status.memory_bytes == sum(counted.values())
    assert await served.metric("graph_cpu_nodes") == 0


async def test_health_checks_and_reflection_are_not_counted(served: RunningServer) -> None:
    await served.health.Check(health_pb2.HealthCheckRequest())
    assert await served.metric("requests_total") == 0


async def test_the_process_is_told_of(served: RunningServer) -> None:
    text = await asyncio.to_thread(scrape, served.server.metrics_port)
    shown = {name: float(value) for name, value in re.findall(r"^(process_\w+) (\S+)$", text, re.MULTILINE)}
    assert shown["process_resident_memory_bytes"] > 1 << 20
    assert 3 < shown["process_open_fds"] < shown["process_max_fds"]
    assert shown["process_cpu_seconds_total"] > 0
    assert await served.metric("memory_limit_bytes") > shown["process_resident_memory_bytes"]


async def test_the_documentation_lists_what_a_scrape_shows(repository: Path, tmp_path: Path) -> None:
    authority = Authority()
    authority.issue(*LOCAL).write(tmp_path)
    credentials = grpc.ssl_channel_credentials(authority.pem)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    async with (
        running_server(repository, metrics_listen="127.0.0.1:0", **tls_options(tmp_path)) as served,
        grpc.aio.secure_channel(f"127.0.0.1:{served.server.port}", credentials) as channel,
    ):
        await generation_pb2_grpc.GenerationServiceStub(channel).Sample(pb.SampleRequest(model=VAE, count=1))
        text = await asyncio.to_thread(scrape, served.server.metrics_port, "", context)
    shown = re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE)
    listed = re.findall(r"^\| `((?:latentserve|process)_\w+)` \| (\w+)", OPERATIONS.read_text(), re.MULTILINE)
    assert sorted((name, kind) for name, kind in shown if not name.endswith("_created")) == sorted(listed)


async def test_a_scrape_may_ask_for_one_histogram(served: RunningServer) -> None:
    await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1))
    wanted = "latentserve_request_duration_seconds"
    text = await asyncio.to_thread(scrape, served.server.metrics_port, f"?name[]={wanted}_count")
    assert f'{wanted}_count{{method="Sample",model="vae"}} 1.0' in text
    assert "latentserve_batch_rows" not in text
