"""What the Open Inference Protocol says of the server and its models is what the other calls and the bundles say."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from inference_requests import arrays_of, infer_request, stub_of
from refusal import invalid_field
from running_server import RunningServer, running_server
from tested_device import device, tolerance
from tiny_bundle import TinyModel

from latentserve.oip import inference_pb2 as pb
from latentserve.v1 import generation_pb2, models_pb2

DTYPES = {pb.TYPE_FP32: "FP32", pb.TYPE_UINT8: "UINT8"}
MODELS = ["vae", "vae.encoder", "vae.reconstruct", "colour", "colour.encoder", "colour.reconstruct", "gan"]


async def ready(served: RunningServer, name: str, version: str = "") -> bool:
    return (await stub_of(served).ModelReady(pb.ModelReadyRequest(name=name, version=version))).ready


async def index(served: RunningServer, **fields: Any) -> list[tuple[str, str, str]]:
    reply = await stub_of(served).RepositoryIndex(pb.RepositoryIndexRequest(**fields))
    return [(model.name, model.version, model.state) for model in reply.models]


async def metadata(served: RunningServer, name: str) -> pb.ModelMetadataResponse:
    return await stub_of(served).ModelMetadata(pb.ModelMetadataRequest(name=name))


def break_bundle(directory: Path) -> None:
    (directory / "decoder.onnx").write_bytes(b"")


async def test_the_server_lives_and_says_what_it_is(served: RunningServer) -> None:
    assert (await stub_of(served).ServerLive(pb.ServerLiveRequest())).live
    assert (await stub_of(served).ServerReady(pb.ServerReadyRequest())).ready
    described = await stub_of(served).ServerMetadata(pb.ServerMetadataRequest())
    assert (described.name, described.version) == ("latentserve", version("latentserve-server"))
    assert list(described.extensions) == ["model_configuration", "schedule_policy"]


async def test_a_server_that_stops_lives_and_is_not_ready(repository: Path) -> None:
    async with running_server(repository, drain_delay=0.5) as served:
        watch = served.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(served.server.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert (await stub_of(served).ServerLive(pb.ServerLiveRequest())).live
        assert not (await stub_of(served).ServerReady(pb.ServerReadyRequest())).ready
        await stopping


@pytest.mark.parametrize("name", MODELS)
async def test_a_model_takes_and_gives_what_its_metadata_says(served: RunningServer, name: str) -> None:
    described = await metadata(served, name)
    assert (described.name, described.platform, list(described.versions)) == (name, "onnxruntime_onnx", ["1"])
    (tensor,) = described.inputs
    assert (tensor.datatype, tensor.shape[0]) == ("FP32", -1)
    rows = np.zeros((5, *tensor.shape[1:]), np.float32)
    response = await stub_of(served).ModelInfer(infer_request(name, tensor.name, rows))
    given = [(output.name, output.datatype, [-1, *output.shape[1:]]) for output in response.outputs]
    assert given == [(output.name, output.datatype, list(output.shape)) for output in described.outputs]
    assert {len(array) for array in arrays_of(response).values()} == {5}


@pytest.mark.parametrize("name", MODELS)
async def test_a_models_configuration_is_its_metadata_and_the_limits(served: RunningServer, name: str) -> None:
    described = await metadata(served, name)
    config = (await stub_of(served).ModelConfig(pb.ModelConfigRequest(name=name))).config
    assert (config.name, config.platform, config.backend) == (name, described.platform, "onnxruntime")
    for tensors, ports in ((described.inputs, config.input), (described.outputs, config.output)):
        configured = [(port.name, DTYPES[port.data_type], [-1, *port.dims]) for port in ports]
        assert configured == [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors]
    assert config.max_batch_size == 32
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    kind = {"cpu": pb.ModelInstanceGroup.KIND_CPU, "cuda": pb.ModelInstanceGroup.KIND_GPU}[device()]
    assert [(group.kind, group.count) for group in config.instance_group] == [(kind, 1)]


@pytest.mark.cpu_only("the same bits in batches of any size are promised on the CPU alone")
async def test_the_configuration_and_every_response_name_the_fingerprint_of_the_bits(served: RunningServer) -> None:
    model = generation_pb2.ModelRef(name="vae")
    described = (await served.models.GetModel(models_pb2.GetModelRequest(model=model))).model
    for name in ("vae", "vae.encoder", "vae.reconstruct"):
        config = (await stub_of(served).ModelConfig(pb.ModelConfigRequest(name=name))).config
        assert config.parameters["numerics"].string_value == described.numerics != ""
    response = await stub_of(served).ModelInfer(infer_request("vae", "latent", np.zeros((1, 3), np.float32)))
    assert response.parameters["numerics"].string_param == described.numerics


async def test_a_model_is_ready_where_it_can_be_run(served: RunningServer) -> None:
    assert all([await ready(served, name) for name in MODELS])
    assert await ready(served, "vae", "1")
    for name in ("nix", "gan.encoder", "gan.reconstruct", "vae.decoder"):
        assert not await ready(served, name)
    for absent in ("2", "0", "stable"):
        assert not await ready(served, "vae", absent)
    assert await invalid_field(ready(served, "")) == "model name"


async def test_the_index_lists_every_part(served: RunningServer) -> None:
    listed = [(name, "1", "READY") for name in sorted(MODELS, key=lambda name: name.partition(".")[0])]
    assert sorted(await index(served)) == sorted(listed)
    assert await index(served, ready=True) == await index(served)


async def test_a_broken_version_is_listed_and_not_ready(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "vae" / "1")
    break_bundle(TinyModel().write(tmp_path / "broken" / "1"))
    async with running_server(tmp_path) as served:
        reply = await stub_of(served).RepositoryIndex(pb.RepositoryIndexRequest())
        broken = reply.models[0]
        assert (broken.name, broken.version, broken.state) == ("broken", "1", "UNAVAILABLE")
        assert "decoder.onnx" in broken.reason
        assert "broken" not in {name for name, _, _ in await index(served, ready=True)}
        for name in ("broken", "broken.encoder"):
            assert not await ready(served, name)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await metadata(served, name)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_model_whose_own_name_ends_so_comes_first(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "vae" / "1")
    TinyModel(kind="gan", latent_dim=7).write(tmp_path / "vae.encoder" / "1")
    async with running_server(tmp_path) as served:
        assert [list(tensor.shape) for tensor in (await metadata(served, "vae.encoder")).inputs] == [[-1, 7]]
        assert [tensor.name for tensor in (await metadata(served, "vae.reconstruct")).inputs] == ["image"]


async def test_a_version_is_a_number_an_alias_or_the_default(tmp_path: Path) -> None:
    old, new = TinyModel(seed=1), TinyModel(kind="gan", seed=2)
    old.write(tmp_path / "m" / "1")
    new.write(tmp_path / "m" / "2")
    (tmp_path / "m" / "aliases.json").write_text('{"stable": 1}')
    async with running_server(tmp_path, version_policy="all") as served:
        latents = np.ones((2, 3), np.float32)
        for asked, answers, model in (("1", "1", old), ("stable", "1", old), ("2", "2", new), ("", "2", new)):
            request = infer_request("m", "latent", latents, "image", model_version=asked)
            response = await stub_of(served).ModelInfer(request)
            assert response.model_version == answers
            np.testing.assert_allclose(arrays_of(response)["image"], model.images(latents), atol=tolerance(1e-5))
        assert [await ready(served, "m.encoder", asked) for asked in ("1", "stable", "2", "")] == [
            True,
            True,
            False,
            False,
        ]
        assert list((await metadata(served, "m")).versions) == ["1", "2"]
        described = await stub_of(served).ModelMetadata(pb.ModelMetadataRequest(name="m.encoder", version="stable"))
        assert list(described.versions) == ["1"]
        listed = [("m", "1"), ("m.encoder", "1"), ("m.reconstruct", "1"), ("m", "2")]
        assert await index(served) == [(name, number, "READY") for name, number in listed]


async def test_a_part_is_counted_under_its_model_and_a_made_up_name_under_none(repository: Path) -> None:
    async with running_server(repository, metrics_listen="127.0.0.1:0") as served:
        for name in ("vae.encoder", "vae.reconstruct"):
            await stub_of(served).ModelInfer(infer_request(name, "image", np.zeros((1, 1, 4, 5), np.float32)))
        with pytest.raises(grpc.aio.AioRpcError):
            await metadata(served, "made-up.encoder")
        assert await served.metric("requests_total", method="ModelInfer", model="vae", code="OK") == 2
        assert await served.metric("requests_total", method="ModelMetadata", model="", code="NOT_FOUND") == 1
