"""Which versions there are, in what state, and which one answers."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2


def write_versions(root: Path, *versions: int) -> None:
    for version in versions:
        TinyModel(seed=version).write(root / "vae" / str(version))


def damage(bundle: Path) -> None:
    (bundle / "decoder.onnx").write_bytes(b"garbage")


async def answering(served: RunningServer, **selector: int) -> int:
    """The version that answers."""
    request = pb.SampleRequest(model=pb.ModelRef(name="vae", **selector), count=1)  # type: ignore[arg-type]
    return int((await served.generation.Sample(request)).served.version)


async def listed(served: RunningServer) -> list[models_pb2.ModelStatus]:
    return list((await served.models.ListModels(models_pb2.ListModelsRequest())).models)


async def test_the_highest_version_answers_unless_another_is_named(tmp_path: Path) -> None:
    write_versions(tmp_path, 9, 10, 2)
    async with running_server(tmp_path, version_policy="all") as served:
        assert await answering(served) == 10
        assert [await answering(served, version=version) for version in (2, 9, 10)] == [2, 9, 10]
        assert [(one.version, one.is_default) for one in await listed(served)] == [(2, False), (9, False), (10, True)]


async def test_versions_answer_with_their_own_weights(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    async with running_server(tmp_path, version_policy="all") as served:
        replies = [
            await served.generation.Sample(
                pb.SampleRequest(model=pb.ModelRef(name="vae", version=version), count=1, seed=1)
            )
            for version in (1, 2)
        ]
    assert replies[0].images != replies[1].images


async def test_a_broken_version_is_unavailable_and_the_others_are_served(tmp_path: Path) -> None:
    write_versions(tmp_path, 1, 2)
    damage(tmp_path / "vae" / "2")
    async with running_server(tmp_path) as served:
        assert await answering(served) == 1
        healthy, broken = await listed(served)
        assert (healthy.state, healthy.is_default) == (models_pb2.MODEL_STATE_READY, True)
        assert (broken.state, broken.is_default) == (models_pb2.MODEL_STATE_UNAVAILABLE, False)
        assert broken.reason.startswith("decoder.onnx: ")
        assert not broken.capabilities
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answering(served, version=2)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (caught.value.details() or "").endswith(broken.reason)


async def test_a_model_without_a_ready_version_is_unavailable_beside_one_that_is_served(tmp_path: Path) -> None:
    write_versions(tmp_path, 1)
    damage(TinyModel().write(tmp_path / "broken" / "3"))
    async with running_server(tmp_path) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="broken"), count=1))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await answering(served) == 1


async def test_only_names_and_positive_integers_are_models(tmp_path: Path) -> None:
    write_versions(tmp_path, 3)
    ignored = ["vae/.staging-4", "vae/latest", "vae/04", "vae/0", "vae/-1", "vae/1.5", ".hidden/1", "bad name/1", "é/1"]
    for place in ignored:
        TinyModel(height=1, width=1).write(tmp_path / place)
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("not a model")
    (tmp_path / "vae" / "notes.txt").write_text("not a version")
    async with running_server(tmp_path) as served:
        assert [(one.name, one.version) for one in await listed(served)] == [("vae", 3)]


async def test_a_reply_names_the_version_that_a_restart_brought(tmp_path: Path) -> None:
    write_versions(tmp_path, 1)
    async with running_server(tmp_path) as served:
        assert await answering(served) == 1
    write_versions(tmp_path, 2)
    async with running_server(tmp_path) as served:
        assert await answering(served) == 2
