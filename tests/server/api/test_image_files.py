"""Image files are read and written off the event loop, a few at a turn, and no call may bring too many pixels."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from held_graph import turn_loop
from held_work import HeldWork
from numpy.typing import NDArray
from PIL import Image
from refusal import invalid, invalid_field
from running_server import RunningServer
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.images import read_images, write_images
from latentserve_server.errors import InvalidArgument
from latentserve_server.workers import Workers

VAE = pb.ModelRef(name="vae")
SPEC = bundle_pb2.ImageSpec(channels=1, height=4, width=5, max_value=1)
MANY = 600
"""Files that are more than are done in one turn."""


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0]).save(file, "PNG")
    return file.getvalue()


def encoded(files: list[bytes], *, resize: bool = False) -> pb.Images:
    return pb.Images(encoded=pb.EncodedImages(files=files, resize=resize))


@pytest.fixture(scope="module")
def huge() -> bytes:
    """A file of some 8 KB and of as many pixels as one may have, 2^26."""
    file = io.BytesIO()
    Image.new("1", (8192, 8192)).save(file, "PNG")
    assert len(file.getvalue()) < 10_000
    return file.getvalue()


async def test_others_are_answered_while_huge_files_are_unpacked(served: RunningServer, huge: bytes) -> None:
    request = pb.EncodeRequest(model=VAE, images=encoded([huge] * 4, resize=True))
    encoding = asyncio.ensure_future(served.generation.Encode(request))
    for _ in range(20):  # far more than are answered between the unpacking and the reply
        await served.models.ListModels(models_pb2.ListModelsRequest())
    assert not encoding.done()
    assert list((await encoding).mean.shape) == [4, 3]


async def test_a_call_with_too_many_pixels_in_all_is_refused_before_any_are_unpacked(
    served: RunningServer, huge: bytes
) -> None:
    damaged = huge[:-1000]  # which only unpacking would tell
    request = pb.EncodeRequest(model=VAE, images=encoded([damaged] * 5, resize=True))
    assert await invalid(served.generation.Encode(request)) == (
        "images.encoded.files: 335544320 pixels in 5 files that are to be resized; 268435456 in all are allowed"
    )


@pytest.mark.parametrize("field", ["from", "to"])
async def test_points_that_are_files_are_refused_by_their_own_name(
    served: RunningServer, huge: bytes, field: str
) -> None:
    ends = {name: pb.Points(seeds=pb.Seeds(seeds=[1] * 5)) for name in ("from", "to")}
    ends[field] = pb.Points(images=encoded([huge] * 5, resize=True))
    request = pb.InterpolateRequest(model=VAE, steps=2, **ends)  # type: ignore[arg-type]  # `from` is a keyword
    assert await invalid_field(served.generation.Interpolate(request)) == f"{field}.images.encoded.files"


@pytest.mark.parametrize("resize", [False, True])
async def test_even_a_small_file_is_read_on_a_thread(workers: Workers, vae: TinyModel, resize: bool) -> None:
    work = HeldWork()
    held = asyncio.create_task(workers.run_each([work.hold]))
    images = encoded([png(vae.random_images(1)[0])], resize=resize)
    reading = asyncio.create_task(read_images("images", images, SPEC, workers))
    await turn_loop()
    assert not reading.done()
    work.open()
    await held
    np.testing.assert_array_equal(await reading, vae.random_images(1) / np.float32(255))


@pytest.mark.parametrize("grid_columns", [0, 2])
async def test_even_a_small_file_is_written_on_a_thread(workers: Workers, vae: TinyModel, grid_columns: int) -> None:
    work = HeldWork()
    held = asyncio.create_task(workers.run_each([work.hold]))
    output = pb.Output(format=pb.IMAGE_FORMAT_PNG, grid_columns=grid_columns)
    writing = asyncio.create_task(write_images(vae.random_images(1), output, workers))
    await turn_loop()
    assert not writing.done()
    work.open()
    await held
    (data,) = (await writing).encoded.files
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), vae.random_images(1)[0, 0])


@pytest.mark.parametrize("resize", [False, True])
async def test_files_of_many_turns_keep_their_order(workers: Workers, vae: TinyModel, resize: bool) -> None:
    pixels = vae.random_images(MANY)
    written = await write_images(pixels, pb.Output(format=pb.IMAGE_FORMAT_PNG), workers)
    assert len(written.encoded.files) == MANY
    written.encoded.resize = resize
    read = await read_images("images", written, SPEC, workers)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, pixels / np.float32(255))


@pytest.mark.parametrize("resize", [False, True])
async def test_a_damaged_file_of_a_later_turn_is_named(workers: Workers, vae: TinyModel, resize: bool) -> None:
    files = [png(vae.random_images(1)[0])] * MANY
    files[MANY - 2] = files[0][:-40]
    with pytest.raises(InvalidArgument, match=rf"^images.encoded.files\[{MANY - 2}\]: "):
        await read_images("images", encoded(files, resize=resize), SPEC, workers)
