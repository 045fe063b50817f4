"""Images of any number of channels as tensors, and as picture files where a file can show them, or some of them."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from refusal import invalid, refusal
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb

MODELS = {channels: TinyModel(channels=channels, latent_dim=4, seed=channels) for channels in (1, 2, 3, 4, 13)}
CHANNELS = [2, 4, 13]
PNG, JPEG, WEBP = pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_WEBP
UINT8 = pb.IMAGE_FORMAT_UINT8
GAP = 2
FILES_ARE_NOT = "files hold 1, 3 or 4 channels and the model's images 13"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for channels, model in MODELS.items():
        model.write(root / f"of-{channels}" / "1")
    return root


@pytest.fixture
async def served(shelf: Path) -> AsyncIterator[RunningServer]:
    async with running_server(shelf, max_rows_per_request=32, max_batch_rows=8) as server:
        yield server


def ref(channels: int) -> pb.ModelRef:
    return pb.ModelRef(name=f"of-{channels}")


def sample(channels: int, **output: Any) -> pb.SampleRequest:
    return pb.SampleRequest(model=ref(channels), count=5, seed=3, output=pb.Output(**output))


def tensor_of(images: NDArray[Any]) -> pb.Images:
    return pb.Images(tensor=from_ndarray(images))


def written(image: NDArray[np.uint8], form: str = "PNG", **options: Any) -> bytes:
    """A file of an image [channels, height, width]."""
    file = io.BytesIO()
    Image.fromarray(
        np.ascontiguousarray(image.transpose(1, 2, 0).squeeze(-1) if len(image) == 1 else image.transpose(1, 2, 0))
    ).save(file, form, **options)
    return file.getvalue()


def opened(data: bytes, form: str, mode: str) -> NDArray[np.uint8]:
    """The pixels [channels, height, width] of a file, which is of that format and of those channels."""
    with Image.open(io.BytesIO(data)) as file:
        assert (file.format, file.mode) == (form, mode)
        return np.atleast_3d(np.asarray(file)).transpose(2, 0, 1)


@pytest.mark.parametrize("channels", CHANNELS)
async def test_tensors_hold_any_number_of_channels(served: RunningServer, channels: int) -> None:
    model, stub = MODELS[channels], served.generation
    levels = model.random_images(10)
    forms = [tensor_of(levels), tensor_of(levels.astype(np.float32) / np.float32(255))]
    mean, log_variance = model.posterior(levels / 255)
    for images in forms:
        encoded = await stub.Encode(pb.EncodeRequest(model=ref(channels), images=images))
        np.testing.assert_allclose(to_ndarray(encoded.mean), mean, atol=1e-4)
        np.testing.assert_allclose(to_ndarray(encoded.log_variance), log_variance, atol=1e-4)
    again = await stub.Reconstruct(pb.ReconstructRequest(model=ref(channels), images=forms[0]))
    np.testing.assert_allclose(to_ndarray(again.images.tensor), model.images(mean), atol=1e-4)
    scored = await stub.Score(pb.ScoreRequest(model=ref(channels), images=forms[0]))
    assert scored.reconstruction_error == again.reconstruction_error


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("form", ["FLOAT32", "FLOAT16", "UINT8"])
async def test_samples_of_any_number_of_channels_are_tensors(served: RunningServer, channels: int, form: str) -> None:
    images = to_ndarray((await served.generation.Sample(sample(channels, format=f"IMAGE_FORMAT_{form}"))).images.tensor)
    assert images.shape == (5, channels, 4, 5)
    request = pb.StreamSamplesRequest(
        model=ref(channels), count=5, seed=3, chunk_rows=2, output=pb.Output(format=f"IMAGE_FORMAT_{form}")
    )
    chunks = [to_ndarray(chunk.images.tensor) async for chunk in served.generation.StreamSamples(request)]
    np.testing.assert_array_equal(np.concatenate(chunks), images, strict=True)


@pytest.mark.parametrize(("form", "format_"), [("PNG", PNG), ("WEBP", WEBP)])
async def test_four_channels_are_files_with_alpha_to_the_bit(served: RunningServer, form: str, format_: Any) -> None:
    levels = to_ndarray((await served.generation.Sample(sample(4, format=UINT8))).images.tensor)
    files = (await served.generation.Sample(sample(4, format=format_))).images.encoded.files
    for data, image in zip(files, levels, strict=True):
        np.testing.assert_array_equal(opened(data, form, "RGBA"), image)


async def test_hidden_colours_are_in_the_files_too(served: RunningServer) -> None:
    clear = np.zeros((1, 4), np.float32)
    model = MODELS[4]
    # Latents that bring a pixel's alpha, and not its colours, to 0: least squares over the linear decoder's logits.
    weight = model.weights["decoder_weight"].reshape(4, 4, 20)[:, 3].astype(np.float64)
    clear[0] = np.linalg.lstsq(weight.T, np.full(20, -1000.0), rcond=None)[0]
    request = pb.DecodeRequest(model=ref(4), latents=from_ndarray(clear), output=pb.Output(format=UINT8))
    (levels,) = to_ndarray((await served.generation.Decode(request)).images.tensor)
    assert (levels[:3, levels[3] == 0] > 0).any()
    request.output.format = WEBP
    (data,) = (await served.generation.Decode(request)).images.encoded.files
    np.testing.assert_array_equal(opened(data, "WEBP", "RGBA"), levels)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
async def test_files_with_alpha_are_what_a_model_of_four_channels_sees(served: RunningServer, form: str) -> None:
    levels = MODELS[4].random_images(6)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    files = pb.EncodedImages(files=[written(image, form, **options) for image in levels])
    replies = [
        await served.generation.Encode(pb.EncodeRequest(model=ref(4), images=images))
        for images in (tensor_of(levels), pb.Images(encoded=files))
    ]
    assert replies[0].mean == replies[1].mean


async def test_a_file_without_alpha_is_opaque(served: RunningServer) -> None:
    colours, greys = MODELS[3].random_images(2), MODELS[1].random_images(2)
    files = [written(image) for image in (*colours, *greys)]
    opaque = np.full((4, 1, 4, 5), 255, np.uint8)
    levels = np.concatenate([np.concatenate([colours, np.repeat(greys, 3, axis=1)]), opaque], axis=1)
    replies = [
        await served.generation.Encode(pb.EncodeRequest(model=ref(4), images=images))
        for images in (tensor_of(levels), pb.Images(encoded=pb.EncodedImages(files=files)))
    ]
    assert replies[0].mean == replies[1].mean


BANDS = [
    (13, PNG, "PNG", (12,), "L"),
    (13, WEBP, "WEBP", (3, 2, 1), "RGB"),
    (13, PNG, "PNG", (0, 5, 5, 12), "RGBA"),
    (2, PNG, "PNG", (1, 0, 1), "RGB"),
    (4, PNG, "PNG", (0, 1, 2), "RGB"),
    (3, PNG, "PNG", (2,), "L"),
    (1, PNG, "PNG", (0, 0, 0), "RGB"),
]


@pytest.mark.parametrize(("channels", "format_", "form", "bands", "mode"), BANDS)
async def test_files_show_the_bands(
    served: RunningServer, channels: int, format_: Any, form: str, bands: tuple[int, ...], mode: str
) -> None:
    levels = to_ndarray((await served.generation.Sample(sample(channels, format=UINT8))).images.tensor)[:, bands]
    files = (await served.generation.Sample(sample(channels, format=format_, bands=bands))).images.encoded.files
    for data, image in zip(files, levels, strict=True):
        seen = opened(data, form, "RGB" if mode == "L" and form == "WEBP" else mode)
        np.testing.assert_array_equal(seen, image)


@pytest.mark.parametrize(("bands", "mode"), [((12,), "L"), ((3, 2, 1), "RGB"), ((3, 2, 1, 0), "RGBA")])
async def test_grids_show_the_bands_on_opaque_black(served: RunningServer, bands: tuple[int, ...], mode: str) -> None:
    levels = to_ndarray((await served.generation.Sample(sample(13, format=UINT8))).images.tensor)[:, bands]
    request = sample(13, format=PNG, grid_columns=3, bands=bands)
    (data,) = (await served.generation.Sample(request)).images.encoded.files
    expected = np.zeros((len(bands), 2 * 4 + GAP, 3 * 5 + 2 * GAP), np.uint8)
    expected[3:] = 255
    for place, image in enumerate(levels):
        top, left = place // 3 * (4 + GAP), place % 3 * (5 + GAP)
        expected[:, top : top + 4, left : left + 5] = image
    np.testing.assert_array_equal(opened(data, "PNG", mode), expected)


async def test_every_call_that_gives_pictures_shows_the_bands(served: RunningServer) -> None:
    output, stub, point = (
        pb.Output(format=PNG, bands=[4, 4, 9]),
        served.generation,
        pb.Points(seeds=pb.Seeds(seeds=[1])),
    )
    interpolate = pb.InterpolateRequest(model=ref(13), to=point, steps=2, output=output)
    getattr(interpolate, "from").CopyFrom(point)
    axes = [pb.Axis(dimension=0, low=0, high=1, steps=2)]
    stream = pb.StreamSamplesRequest(model=ref(13), count=1, seed=1, output=output)
    replies = [
        await stub.Sample(pb.SampleRequest(model=ref(13), count=1, seed=1, output=output)),
        *[chunk async for chunk in stub.StreamSamples(stream)],
        await stub.Decode(
            pb.DecodeRequest(model=ref(13), latents=from_ndarray(np.zeros((1, 4), np.float32)), output=output)
        ),
        await stub.Reconstruct(
            pb.ReconstructRequest(model=ref(13), images=tensor_of(MODELS[13].random_images(1)), output=output)
        ),
        await stub.Interpolate(interpolate),
        await stub.Traverse(pb.TraverseRequest(model=ref(13), axes=axes, output=output)),
    ]
    for reply in replies:
        first, second, _ = opened(reply.images.encoded.files[0], "PNG", "RGB")
        np.testing.assert_array_equal(first, second)


async def test_bands_without_alpha_are_jpeg_files(served: RunningServer) -> None:
    files = (await served.generation.Sample(sample(4, format=JPEG, bands=[0, 1, 2]))).images.encoded.files
    assert [opened(data, "JPEG", "RGB").shape for data in files] == [(3, 4, 5)] * 5


ALLOWED = "1, 3 or 4 are allowed"
INSTEAD = "name some in output.bands, or ask for a tensor"
NO_ALPHA = "JPEG has no alpha; name 1 or 3 output.bands, or ask for PNG or WebP"
NO_TENSOR = "are of pictures: the format must be PNG, JPEG or WebP"
REFUSED: dict[str, tuple[int, dict[str, Any], str]] = {
    "files of 13": (13, {"format": PNG}, f"output.format: {FILES_ARE_NOT}; {INSTEAD}"),
    "a grid of 13": (13, {"format": WEBP, "grid_columns": 2}, f"output.format: {FILES_ARE_NOT}; {INSTEAD}"),
    "alpha in JPEG": (4, {"format": JPEG}, f"output.format: {NO_ALPHA}"),
    "four bands in JPEG": (13, {"format": JPEG, "bands": [1, 2, 3, 4]}, f"output.format: {NO_ALPHA}"),
    "bands of a tensor": (13, {"format": UINT8, "bands": [1]}, f"output.bands: {NO_TENSOR}"),
    "bands of no format": (3, {"bands": [0, 1, 2]}, f"output.bands: {NO_TENSOR}"),
    "two bands": (13, {"format": PNG, "bands": [1, 2]}, f"output.bands: 2 bands; {ALLOWED}"),
    "five bands": (13, {"format": PNG, "bands": [0] * 5}, f"output.bands: 5 bands; {ALLOWED}"),
    "a band beyond": (13, {"format": PNG, "bands": [0, 13, 1]}, "output.bands[1]: 13; 0 to 12 are allowed"),
    "a huge band": (1, {"format": PNG, "bands": [2**32 - 1]}, "output.bands[0]: 4294967295; 0 to 0 are allowed"),
}


@pytest.mark.parametrize(("channels", "output", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_pictures_that_cannot_be_are_refused(
    served: RunningServer, channels: int, output: dict[str, Any], message: str
) -> None:
    assert await invalid(served.generation.Sample(sample(channels, **output))) == message
    stream = pb.StreamSamplesRequest(model=ref(channels), count=5, output=pb.Output(**output))
    error = await refusal(anext(aiter(served.generation.StreamSamples(stream))))
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_files_for_a_model_of_other_channels_are_refused_unread(served: RunningServer) -> None:
    images, stub = pb.Images(encoded=pb.EncodedImages(files=[b"no picture"])), served.generation
    point = pb.Points(images=images)
    calls = {
        "images": stub.Encode(pb.EncodeRequest(model=ref(13), images=images)),
        "images ": stub.Score(pb.ScoreRequest(model=ref(13), images=images)),
        "origin.images": stub.Traverse(
            pb.TraverseRequest(model=ref(13), origin=point, axes=[pb.Axis(dimension=0, low=0, high=1, steps=2)])
        ),
    }
    for field, call in calls.items():
        assert await invalid(call) == f"{field.strip()}.encoded: {FILES_ARE_NOT}; send a tensor"
