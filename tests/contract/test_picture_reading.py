"""A picture file is the same pixels for training, which reads a folder, and a server, which is sent it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from picture_files import (
    BY_NAME,
    FILES,
    HEIGHT,
    SCENE,
    WIDTH,
    PictureFile,
    Pixels,
    assert_seen,
    in_channels,
    saved,
)
from refusal import invalid
from running_server import RunningServer, running_server
from seeing_model import levels, write_seeing_model

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import bundle_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_training.data import READING, DataConfig, load
from latentserve_training.data.folder import Folder

SIDE = 12
"""Of the square images of what is resized, which training makes."""
OTHER_READING = bundle_pb2.PictureReading(
    background=bundle_pb2.Colour(red=255, green=255, blue=255),
    grey=bundle_pb2.GREY_WEIGHTS_REC709,
    fit=bundle_pb2.FIT_CROP,
    filter=bundle_pb2.RESIZE_FILTER_BOX,
)
FILES_OF_ONE_SIZE = [file for file in FILES if file.bare.shape[:2] == (HEIGHT, WIDTH)]
Encode = Callable[..., Awaitable[NDArray[np.float32]]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, reading in {"learned": READING, "bare": None, "other": OTHER_READING}.items():
        write_seeing_model(root / f"{name}-colour" / "1", reading, 3, HEIGHT, WIDTH)
        write_seeing_model(root / f"{name}-grey" / "1", reading, 1, HEIGHT, WIDTH)
        write_seeing_model(root / f"{name}-square" / "1", reading, 3, SIDE, SIDE)
    write_seeing_model(root / "clear" / "1", OTHER_READING, 4, HEIGHT, WIDTH)
    write_seeing_model(root / "clear-square" / "1", OTHER_READING, 4, SIDE, SIDE)
    write_seeing_model(root / "digits" / "1", READING, 1, 28, 28)
    return root


@pytest.fixture
async def served(repository: Path) -> Any:
    async with running_server(repository, max_batch_rows=4) as server:
        yield server


@pytest.fixture
def encode(served: RunningServer) -> Encode:
    """Calls the server with files: what the model sees, float32 [n, values]."""

    async def encode(model: str, *files: bytes, resize: bool = False) -> NDArray[np.float32]:
        images = pb.Images(encoded=pb.EncodedImages(files=files, resize=resize))
        reply = await served.generation.Encode(pb.EncodeRequest(model=pb.ModelRef(name=model), images=images))
        return to_ndarray(reply.mean)

    return encode


def read_in_folder(folder: Path, data: bytes, suffix: str, size: int | None = None) -> Pixels:
    """The pixels that training sees of a file: uint8 [channels, height, width]."""
    (folder / f"picture{suffix}").write_bytes(data)
    (image,) = Folder.under(folder, size).read(np.arange(1)).images
    return np.asarray(image)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_training_sees_the_pixels(tmp_path: Path, file: PictureFile) -> None:
    seen = read_in_folder(tmp_path, file.data, Path(file.name).suffix)
    grey = file.pixels.ndim == 2
    assert_seen(seen, file.pixels[np.newaxis] if grey else in_channels(file.pixels), file)


async def test_a_server_sees_the_pixels_that_training_saw(encode: Encode) -> None:
    seen = await encode("learned-colour", *(file.data for file in FILES))
    for file, row in zip(FILES, seen, strict=True):
        assert_seen(levels(row, 3, HEIGHT, WIDTH), in_channels(file.pixels), file)


async def test_a_server_of_a_grey_model_sees_them_too(encode: Encode) -> None:
    files = [file for file in FILES if file.pixels.ndim == 2]
    seen = await encode("learned-grey", *(file.data for file in files))
    for file, row in zip(files, seen, strict=True):
        assert_seen(levels(row, HEIGHT, WIDTH), file.pixels, file)


async def test_a_bundle_that_says_nothing_is_read_without_turns_and_transparency(encode: Encode) -> None:
    seen = await encode("bare-colour", *(file.data for file in FILES_OF_ONE_SIZE))
    for file, row in zip(FILES_OF_ONE_SIZE, seen, strict=True):
        assert_seen(levels(row, 3, HEIGHT, WIDTH), in_channels(file.bare), file)
    turned = encode("bare-colour", BY_NAME["orientation-6.png"].data)
    assert await invalid(turned) == "images.encoded.files[0]: 8x16 pixels where 16x8 are wanted"


async def test_images_of_four_channels_keep_transparency_and_have_no_background(encode: Encode) -> None:
    seen = await encode("clear", *(file.data for file in FILES_OF_ONE_SIZE))
    for file, row in zip(FILES_OF_ONE_SIZE, seen, strict=True):
        pixels, opaque = levels(row, 4, HEIGHT, WIDTH), np.full((HEIGHT, WIDTH), 255, np.uint8)
        assert_seen(pixels[:3], in_channels(file.bare), file)
        np.testing.assert_array_equal(pixels[3], opaque if file.alpha is None else file.alpha, err_msg=file.name)


async def test_colours_that_nobody_sees_do_not_show_in_a_resized_picture(encode: Encode) -> None:
    scene = np.zeros((2 * SIDE, 2 * SIDE, 4), np.uint8)
    scene[:, : SIDE + 1] = 200, 100, 50, 255
    scene[:, SIDE + 1 :] = 0, 0, 255, 0
    red, green, blue, alpha = levels(await encode("clear-square", saved(scene, "PNG"), resize=True), 4, SIDE, SIDE)
    assert len(np.unique(alpha)) == 3  # nothing, the edge, and all
    for colour, level in ((red, 200), (green, 100), (blue, 50)):
        np.testing.assert_allclose(colour[alpha > 0].astype(int), level, atol=1)


@pytest.mark.parametrize(("model", "ground"), [("learned", 0), ("other", 255)])
async def test_the_background_is_the_manifests(encode: Encode, model: str, ground: int) -> None:
    clear = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    assert (levels(await encode(f"{model}-colour", saved(clear, "PNG")), -1) == ground).all()


@pytest.mark.parametrize(
    ("model", "weights"),
    [("learned", (0.299, 0.587, 0.114)), ("bare", (0.299, 0.587, 0.114)), ("other", (0.2126, 0.7152, 0.0722))],
)
async def test_colours_become_grey_by_the_manifests_weights(
    encode: Encode, model: str, weights: tuple[float, float, float]
) -> None:
    seen = levels(await encode(f"{model}-grey", saved(SCENE, "PNG")), HEIGHT, WIDTH)
    np.testing.assert_allclose(seen, SCENE @ np.array(weights), rtol=0, atol=0.51)


KERNELS: dict[str, tuple[float, Callable[[Any], Any]]] = {
    "lanczos": (3, lambda x: np.sinc(x) * np.sinc(x / 3) * (abs(x) < 3)),
    "bicubic": (
        2,
        lambda x: np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2) * (x < 2),
    ),
    "box": (0.5, lambda x: 1.0 * (x <= 0.5)),
}


def resample(pixels: NDArray[Any], length: int, kernel: str) -> NDArray[Any]:
    """The first axis brought to a length: weights of a widened kernel around each new pixel's middle, of sum 1."""
    scale = len(pixels) / length
    _, weight = KERNELS[kernel]
    middles = (np.arange(length)[:, np.newaxis] + 0.5) * scale
    weights = weight(abs(np.arange(len(pixels)) + 0.5 - middles) / max(scale, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(np.tensordot(weights, pixels, 1), 0, 255)


def resized(pixels: NDArray[Any], kernel: str) -> NDArray[Any]:
    """Pixels [height, width, 3] as [3, SIDE, SIDE], the width first."""
    narrow = resample(pixels.swapaxes(0, 1), SIDE, kernel).swapaxes(0, 1)
    return resample(narrow, SIDE, kernel).transpose(2, 0, 1)


LARGE: Pixels = np.random.default_rng(1).integers(0, 256, (24, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("learned", resized(LARGE, "lanczos")),
        ("bare", resized(LARGE, "bicubic")),
        ("other", resized(LARGE[:, 18:42], "box")),
    ],
)
async def test_pictures_are_brought_to_size_as_the_manifest_says(
    encode: Encode, model: str, expected: NDArray[Any]
) -> None:
    seen = levels(await encode(f"{model}-square", saved(LARGE, "PNG"), resize=True), 3, SIDE, SIDE)
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1.5)


async def test_training_and_a_server_resize_alike(tmp_path: Path, encode: Encode) -> None:
    files = [saved(LARGE, "PNG"), *(file.data for file in FILES if file.pixels.ndim == 3)]
    seen = await encode("learned-square", *files, resize=True)
    for data, row in zip(files, seen, strict=True):
        np.testing.assert_array_equal(levels(row, 3, SIDE, SIDE), read_in_folder(tmp_path, data, ".png", SIDE))


async def test_digits_that_are_sent_as_files_are_what_was_trained_on(encode: Encode) -> None:
    digits = load(DataConfig(name="digits")).test.images
    assert len(np.unique(digits)) > 200
    seen = await encode("digits", *(saved(image[0], "PNG") for image in digits))
    np.testing.assert_array_equal(seen, (torch.from_numpy(digits).float() / 255).flatten(1).numpy())


async def test_every_level_of_a_file_is_the_float_that_training_makes_of_it(encode: Encode) -> None:
    every = np.arange(28 * 28).astype(np.uint8).reshape(28, 28)  # MNIST's own images are bytes of this size, too
    seen = await encode("digits", saved(every, "PNG"))
    np.testing.assert_array_equal(seen, (torch.from_numpy(every).float() / 255).reshape(1, -1).numpy())


async def test_a_file_scores_as_the_pixels_that_were_learned(tmp_path: Path, served: RunningServer) -> None:
    model = pb.ModelRef(name="learned-colour")
    for file in (BY_NAME[name] for name in ("rgb-alpha.png", "orientation-6.png", "palette-alphas.png", "turned.jpg")):
        learned = read_in_folder(tmp_path, file.data, ".png")[np.newaxis]
        by_file = pb.Images(encoded=pb.EncodedImages(files=[file.data]))
        by_tensor = pb.Images(tensor=from_ndarray(learned.astype(np.float32) / np.float32(255)))
        scores = [
            await served.generation.Score(pb.ScoreRequest(model=model, images=images))
            for images in (by_file, by_tensor)
        ]
        assert scores[0].elbo == scores[1].elbo
        assert scores[0].reconstruction_error == scores[1].reconstruction_error
        again = [
            await served.generation.Reconstruct(pb.ReconstructRequest(model=model, images=images))
            for images in (by_file, by_tensor)
        ]
        np.testing.assert_array_equal(to_ndarray(again[0].images.tensor), to_ndarray(again[1].images.tensor))
