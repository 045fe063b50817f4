"""What training and a server make of a file is one: the same pixels, or a refusal by both."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from picture_files import DEEP, FILES, HEIGHT, SCENE, WIDTH, Pixels, in_channels, saved
from running_server import running_server
from seeing_model import levels, write_seeing_model
from tiff_files import READ, REFUSED

from latentserve.ndarray import to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_training.data import READING
from latentserve_training.data.folder import Folder
from latentserve_training.errors import DataError

TOO_DEEP = "more than 8 bits a channel; 8 are wanted"
UNREADABLE = {
    "empty.png": b"",
    "text.png": b"no picture",
    "cut-header.png": saved(SCENE, "PNG")[:20],
    "cut.png": saved(SCENE, "PNG")[:200],
    "cut.jpg": saved(SCENE, "JPEG")[:100],
}
TABLE = {file.name: file.data for file in FILES} | DEEP | UNREADABLE


def trained_on(folder: Path, data: bytes, suffix: str) -> Pixels | str:
    """The pixels that training sees of a file, uint8 [3, height, width], or why it refuses it."""
    path = folder / f"picture{suffix}"
    path.write_bytes(data)
    try:
        (image,) = Folder.under(folder, None).read(np.arange(1)).images
    except DataError as error:
        return str(error).removeprefix(f"{path}: cannot be decoded: ")
    return np.broadcast_to(image, (3, *image.shape[1:]))


async def served(repository: Path, files: dict[str, bytes]) -> dict[str, Pixels | str]:
    """The pixels that a model of the server sees of each file, or why it refuses it."""
    write_seeing_model(repository / "seeing" / "1", READING, 3, HEIGHT, WIDTH)
    seen: dict[str, Pixels | str] = {}
    async with running_server(repository) as server:
        for name, data in files.items():
            images = pb.Images(encoded=pb.EncodedImages(files=[data]))
            call = server.generation.Encode(pb.EncodeRequest(model=pb.ModelRef(name="seeing"), images=images))
            try:
                seen[name] = levels(to_ndarray((await call).mean), 3, HEIGHT, WIDTH)
            except grpc.aio.AioRpcError as error:
                refused = f"{error.code().name}: {error.details()}"
                seen[name] = refused.removeprefix("INVALID_ARGUMENT: images.encoded.files[0]: ")
    return seen


async def test_both_see_the_same_pixels_or_refuse(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, there in (await served(tmp_path / "models", TABLE)).items():
        here = trained_on(tmp_path / "data", TABLE[name], ".png")
        if isinstance(there, str):
            assert isinstance(here, str), name
            assert not there.startswith("INTERNAL"), name
            assert name not in DEEP or here == there == TOO_DEEP
        else:
            assert not isinstance(here, str), f"{name}: {here}"
            np.testing.assert_array_equal(here, there, name)


@pytest.mark.parametrize("name", READ)
def test_of_a_tiff_file_training_sees_what_is_colour_or_grey(tmp_path: Path, name: str) -> None:
    data, pixels = READ[name]
    np.testing.assert_array_equal(trained_on(tmp_path, data, ".tif"), in_channels(pixels))


@pytest.mark.parametrize("name", REFUSED)
def test_a_tiff_file_of_other_numbers_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    data, reason = REFUSED[name]
    assert trained_on(tmp_path, data, ".tif") == reason


async def test_a_server_takes_no_tiff_file_at_all(tmp_path: Path) -> None:
    files = {name: data for name, (data, _) in (READ | REFUSED).items()}
    reasons = {str(seen) for seen in (await served(tmp_path, files)).values()}
    assert reasons == {"a TIFF file; PNG, JPEG, WebP, GIF or BMP is wanted"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a band that no tag explains", "left out: bands that are neither colour nor alpha, of 1 of 2 files"),
        ("alpha and a band", "left out: bands that are neither colour nor alpha, of 1 of 2 files"),
        ("alpha and a band", "laid on black: the transparency, of 1 of 2 files"),
        ("two pages", "left out: pages and frames after the first, of 1 of 2 files"),
        ("rgb", "images have 3 channels: 1 of 2 files are in colour or have a palette"),
    ],
)
def test_training_says_what_of_a_file_it_leaves_out(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / "a.png").write_bytes(saved(SCENE[..., 0], "PNG"))
    (tmp_path / "b.tif").write_bytes(READ[name][0])
    remarks = Folder.under(tmp_path, None).remarks
    assert f"{line}, such as {tmp_path / 'b.tif'}" in remarks
    expected = {remark for remark in remarks if remark.startswith(("laid", "left"))}
    assert len(expected) == {"alpha and a band": 2, "rgb": 0}.get(name, 1)


@pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp"])
def test_the_frames_of_an_animation_are_counted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TABLE[name])
    assert any("pages and frames" in line for line in Folder.under(tmp_path, None).remarks)
    (tmp_path / name).write_bytes(saved(SCENE, name[-3:].upper()) if name != "animated.webp" else TABLE["rgb.webp"])
    assert not any("pages and frames" in line for line in Folder.under(tmp_path, None).remarks)
