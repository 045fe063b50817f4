"""Requests that are well formed and yet cannot be answered, and bytes that are no request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from model_shelf import Shelf
from refusal import invalid_field, refusal
from running_server import RunningServer, running_server
from tested_device import device
from tiny_bundle import TinyModel
from tiny_graph import FAILURES, FRAGILE_LIMIT

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2

IMAGES = pb.Images(tensor=from_ndarray(np.zeros((1, 3, 4, 5), np.uint8)))

NO_PICTURES = pb.Images(encoded=pb.EncodedImages(files=[b"no picture"]))

UNWANTED = "the version policy explicit does not want it"


def ref(name: str, **selector: Any) -> pb.ModelRef:
    return pb.ModelRef(name=name, **selector)


def every_call(served: RunningServer, model: pb.ModelRef) -> list[Any]:
    latents = from_ndarray(np.zeros((1, 3), np.float32))
    return [
        served.generation.Sample(pb.SampleRequest(model=model, count=1)),
        served.generation.Encode(pb.EncodeRequest(model=model, images=IMAGES)),
        served.generation.Decode(pb.DecodeRequest(model=model, latents=latents)),
        served.generation.Reconstruct(pb.ReconstructRequest(model=model, images=IMAGES)),
        served.models.GetModel(models_pb2.GetModelRequest(model=model)),
    ]


@pytest.mark.parametrize(
    "model",
    [
        ref("nope"),
        ref("nope", version=1),
        ref("vae", version=2),
        ref("vae", alias="stable"),
        ref("vae", alias=""),
        ref("../vae"),
        ref("VAE"),
    ],
    ids=lambda model: str(model).replace("\n", " ").strip(),
)
async def test_an_unknown_model_version_or_alias_is_not_found_by_every_call(
    served: RunningServer, model: pb.ModelRef
) -> None:
    for call in every_call(served, model):
        assert (await refusal(call)).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("images", [IMAGES, NO_PICTURES], ids=["images", "files that nobody opens"])
async def test_a_gan_cannot_encode_reconstruct_or_score_and_says_so(served: RunningServer, images: pb.Images) -> None:
    model = ref("gan")
    calls: list[tuple[str, Any]] = [
        ("encode", served.generation.Encode(pb.EncodeRequest(model=model, images=images))),
        ("encode", served.generation.Encode(pb.EncodeRequest(model=model, images=images, draw=pb.Draw()))),
        ("reconstruct", served.generation.Reconstruct(pb.ReconstructRequest(model=model, images=images))),
        ("score", served.generation.Score(pb.ScoreRequest(model=model, images=images))),
    ]
    for verb, call in calls:
        error = await refusal(call)
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error.details() == f"model 'gan' is a GAN and cannot {verb}"


@pytest.mark.parametrize("method", ["Sample", "Encode", "Decode", "Reconstruct"])
@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x7f", b"not a message at all"], ids=["tag", "length", "text"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(
    served: RunningServer, method: str, data: bytes
) -> None:
    call: Any = served.channel.unary_unary(f"/latentserve.v1.GenerationService/{method}")
    assert await invalid_field(call(data)) == "request"


async def test_a_method_that_does_not_exist_is_unimplemented(served: RunningServer) -> None:
    call: Any = served.channel.unary_unary("/latentserve.v1.GenerationService/Dream")
    error = await refusal(call(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_over_the_limit_is_refused_by_the_transport(repository: Path) -> None:
    async with running_server(repository, max_message_bytes=1 << 20) as served:
        latents = from_ndarray(np.zeros((1 << 18, 3), np.float32))
        error = await refusal(served.generation.Decode(pb.DecodeRequest(model=ref("vae"), latents=latents)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await served.generation.Sample(pb.SampleRequest(model=ref("vae"), count=1))


@pytest.mark.parametrize("output", [pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_UINT8])
async def test_as_many_rows_as_the_limit_says_fit_a_reply(tmp_path: Path, output: pb.ImageFormat) -> None:
    TinyModel(height=32, width=32).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_message_bytes=1 << 20) as served:
        described = await served.models.GetModel(models_pb2.GetModelRequest(model=ref("vae")))
        rows = described.model.limits.max_rows_per_request
        assert 200 < rows < 4096  # the size of a message decides, not the option's default
        request = pb.SampleRequest(model=ref("vae"), count=rows, output=pb.Output(format=output))
        assert (await served.generation.Sample(request)).images.tensor.shape[0] == rows
        assert (await refusal(served.generation.Sample(pb.SampleRequest(model=ref("vae"), count=rows + 1)))).code() is (
            grpc.StatusCode.INVALID_ARGUMENT
        )


@pytest.mark.parametrize("form", [pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_WEBP])
async def test_as_many_rows_as_the_limit_says_fit_a_reply_of_files(tmp_path: Path, form: pb.ImageFormat) -> None:
    TinyModel(channels=3, height=2, width=2, latent_dim=1).write(tmp_path / "vae" / "1")
    limits = {"max_rows_per_request": 20_000, "max_queue_rows": 20_000, "max_batch_rows": 4096}
    async with running_server(tmp_path, max_message_bytes=1 << 20, **limits) as served:
        described = await served.models.GetModel(models_pb2.GetModelRequest(model=ref("vae")))
        rows = described.model.limits.max_rows_per_request
        files = pb.Output(format=form)
        reply = await served.generation.Sample(pb.SampleRequest(model=ref("vae"), count=rows, output=files))
        assert len(reply.images.encoded.files) == rows


async def test_as_many_rows_as_the_limit_says_fit_a_reply_beside_their_latents(tmp_path: Path) -> None:
    TinyModel(height=16, width=16, latent_dim=100).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_message_bytes=1 << 20) as served:
        described = await served.models.GetModel(models_pb2.GetModelRequest(model=ref("vae")))
        rows = described.model.limits.max_rows_per_request
        assert rows < 4096
        ends = {"from": pb.Points(seeds=pb.Seeds(seeds=[1])), "to": pb.Points(seeds=pb.Seeds(seeds=[2]))}
        request = pb.InterpolateRequest(model=ref("vae"), steps=rows, **ends)
        assert (await served.generation.Interpolate(request)).latents.shape[0] == rows


async def test_a_model_name_of_a_megabyte_is_refused_like_any_other(served: RunningServer) -> None:
    error = await refusal(served.generation.Sample(pb.SampleRequest(model=ref("x" * 1_000_000), count=1)))
    assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


async def test_of_many_versions_that_do_not_answer_the_highest_are_told(shelf: Shelf) -> None:
    for version in range(2, 151):
        shelf.publish_written(version, lambda place: shutil.copytree(shelf.model / "1", place))
    async with running_server(shelf.root, version_policy="explicit") as served:
        error = await refusal(served.generation.Sample(pb.SampleRequest(model=ref("vae"), count=1)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    told = [f"model 'vae' version {one} is unavailable: {UNWANTED}" for one in (148, 149, 150)]
    assert error.details() == "; ".join([*told, "and 147 lower versions do not answer either"])


async def test_a_long_message_is_cut_to_what_a_reply_carries(tmp_path: Path) -> None:
    name = "n" * 128
    TinyModel().write(tmp_path / "vae" / "1")
    for version in ("1", "2", "3"):
        place = tmp_path / name / version
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps({"\U0001f3a8" * 600: 1}, ensure_ascii=False))
    async with running_server(tmp_path, version_policy="all") as served:
        error = await refusal(served.generation.Sample(pb.SampleRequest(model=ref(name), count=1)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    details = error.details() or ""
    assert details.startswith(f"model '{name}' version 1 is unavailable: manifest.json: ")
    assert details.endswith("...")
    assert 1000 < len(details.encode()) <= 1027


async def test_a_tensor_of_very_many_axes_is_an_invalid_argument(served: RunningServer) -> None:
    latents = from_ndarray(np.zeros((1, 3), np.float32))
    latents.shape.extend([1] * 20_000)
    error = await refusal(served.generation.Decode(pb.DecodeRequest(model=ref("vae"), latents=latents)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_graph_that_fails_at_run_time_fails_its_call_alone(tmp_path: Path) -> None:
    model = TinyModel(fragile=True)
    model.write(tmp_path / "vae" / "1")

    def decode(served: RunningServer, first: float) -> Any:
        latents = np.array([[0, 0, 0], [first, 1, 1]], np.float32)
        return served.generation.Decode(pb.DecodeRequest(model=ref("vae"), latents=from_ndarray(latents)))

    async with running_server(tmp_path) as served:
        error = await refusal(decode(served, FRAGILE_LIMIT))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert FAILURES[device()] in (error.details() or "")
        await decode(served, FRAGILE_LIMIT - 1)
