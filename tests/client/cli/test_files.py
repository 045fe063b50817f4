"""Picture files as the command line reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_files import DEEP, FILES, HEIGHT, WIDTH, PictureFile, assert_seen, in_channels

from latentserve.v1 import bundle_pb2
from latentserve_client.cli.files import FileError, read_image

SPEC = bundle_pb2.ImageSpec(
    channels=3,
    height=HEIGHT,
    width=WIDTH,
    max_value=1,
    reading=bundle_pb2.PictureReading(upright=True, background=bundle_pb2.Colour(red=0, green=0, blue=0)),
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_pixels_are_those_that_a_server_sees(tmp_path: Path, file: PictureFile) -> None:
    (tmp_path / file.name).write_bytes(file.data)
    assert_seen(read_image(tmp_path / file.name, SPEC, resize=False).pixels, in_channels(file.pixels), file)


@pytest.mark.parametrize("channels", [2, 5])
def test_files_are_not_for_models_of_other_channels(tmp_path: Path, channels: int) -> None:
    (tmp_path / "rgb.png").write_bytes(b"not even read")
    spec = bundle_pb2.ImageSpec(channels=channels, height=HEIGHT, width=WIDTH)
    with pytest.raises(FileError, match=f"rgb.png: the model's images have {channels} channels, which no image file"):
        read_image(tmp_path / "rgb.png", spec, resize=False)


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_a_channel_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name])
    with pytest.raises(FileError, match="more than 8 bits a channel"):
        read_image(tmp_path / name, SPEC, resize=False)
