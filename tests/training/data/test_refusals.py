"""What is said of a folder of images that cannot be trained on, and of settings that cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentserve_training.data import DataConfig, load
from latentserve_training.data.folder import Folder
from latentserve_training.errors import ConfigError, DataError

Prepare = Callable[[Path], object]
RNG = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pictures(**shapes: tuple[int, ...]) -> Prepare:
    """PNG files of noise by their names."""

    def prepare(root: Path) -> None:
        for name, shape in shapes.items():
            save(root / f"{name}.png", noise(*shape))

    return prepare


def content(data: bytes) -> Prepare:
    return lambda root: (root / "broken.png").write_bytes(data)


def cut(root: Path) -> None:
    save(root / "broken.png", noise(32, 32))
    (root / "broken.png").write_bytes((root / "broken.png").read_bytes()[:300])


def change_chunk(root: Path) -> None:
    """Damage a chunk in the middle, which Pillow calls a SyntaxError."""
    save(root / "broken.png", noise(300, 300))
    data = bytearray((root / "broken.png").read_bytes())
    data[data.rfind(b"IDAT")] ^= 0x81
    (root / "broken.png").write_bytes(data)


def lead_nowhere(root: Path) -> None:
    save(root / "1.png", noise(4, 4))
    (root / "2.png").symlink_to(root / "gone.png")


NONE = "data.root {root} holds no image files; known are .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp"
BROKEN = "{root}/broken.png: cannot be decoded: ..."
FOLDERS: list[tuple[Prepare, str]] = [
    (lambda root: None, NONE),
    (Path.rmdir, "data.root {root} is not a folder"),
    (
        lambda root: (root / "data.zip").write_bytes(b"packed"),
        f"{NONE}; passed over: files of other kinds, 1: .zip (1)",
    ),
    (
        lambda root: save(root / ".hidden.png", noise(4, 4)),
        f"{NONE}; passed over: hidden names (a leading dot, or __MACOSX), 1, such as {{root}}/.hidden.png",
    ),
    (lead_nowhere, "{root}/2.png: cannot be read: No such file or directory"),
    (
        lambda root: save(root / "caf\udce9" / "1.png", noise(4, 4)),
        r"data.root {root}: a class's name must be UTF-8, unlike 'caf\udce9'",
    ),
    (pictures(a=(4, 4), b=(4, 8)), "{root}/b.png is 8x4, but {root}/a.png is 4x4; set data.size to resize all"),
    (content(b""), BROKEN),
    (content(b"no image"), BROKEN),
    (content(b"\x89PNG\r\n\x1a\n" + bytes(20)), BROKEN),
    (cut, BROKEN),
    (change_chunk, BROKEN),
    (
        lambda root: Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(root / "deep.png"),
        "{root}/deep.png: cannot be decoded: more than 8 bits a channel; 8 are wanted",
    ),
]


@pytest.mark.parametrize(("prepare", "message"), FOLDERS)
def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, prepare: Prepare, message: str) -> None:
    root = tmp_path / "images"
    root.mkdir()
    prepare(root)
    with pytest.raises(DataError) as caught:
        Folder.under(root, None).read(np.arange(2))
    said = re.sub(r"(?<=broken.png: cannot be decoded: ).+", "...", str(caught.value))  # Pillow's own words
    assert said == message.format(root=root)


NEEDED = "of the 12 images that are needed at least, 4 each for training, validation and test"
SPLITS: list[tuple[int, float, float, str]] = [
    (3, 0.1, 0.1, f"data 'folder' has 3 {NEEDED}"),
    (11, 0.3, 0.3, f"data 'folder' has 11 {NEEDED}"),
    (
        30,
        0.1,
        0.2,
        "data 'folder' of 30 images leaves 3 for validation, but at least 4 are needed; "
        "raise data.validation_fraction to 0.14, or add images",
    ),
    (
        30,
        0.2,
        0.1,
        "data 'folder' of 30 images leaves 3 for test, but at least 4 are needed; "
        "raise data.test_fraction to 0.14, or add images",
    ),
    (
        12,
        0.4,
        0.4,
        "data 'folder' of 12 images leaves 2 for training, but at least 4 are needed; "
        "lower data.validation_fraction and data.test_fraction, or add images",
    ),
]


@pytest.mark.parametrize(("count", "validation", "test", "message"), SPLITS)
def test_splits_too_small_to_be_measured_are_refused(
    tmp_path: Path, count: int, validation: float, test: float, message: str
) -> None:
    for number in range(count):
        save(tmp_path / f"{number}.png", noise(4, 4))
    with pytest.raises(DataError) as caught:
        load(DataConfig(name="folder", root=tmp_path, validation_fraction=validation, test_fraction=test))
    assert str(caught.value) == message


def test_images_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"{number}.png", np.full((4, 4), 7, np.uint8))
    with pytest.raises(DataError) as caught:
        load(DataConfig(name="folder", root=tmp_path))
    assert str(caught.value) == "data 'folder': the 32 training images are all the same"


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"name": "mnist"}, "data.root is not set; mnist data needs the folder of its files"),
    ({"name": "folder"}, "data.root is not set; folder data needs the folder of its files"),
    (
        {"name": "mnist", "root": Path("x"), "size": 32},
        "data.size is 32; mnist images are 28x28 and are not resized",
    ),
    ({"size": 3}, "data.size is 3; it must be 4 to 1024 pixels"),
    ({"validation_fraction": 0.0}, "data.validation_fraction is 0.0; it must lie between 0 and 0.5"),
    ({"test_fraction": 0.5}, "data.test_fraction is 0.5; it must lie between 0 and 0.5"),
    ({"split_seed": -1}, "data.split_seed is -1; it must not be negative"),
    (
        {"placement": "disk"},
        "data.placement is disk, but digits images are few; allowed are auto, device, memory",
    ),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_settings_out_of_range_name_their_field(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DataConfig(**settings)
    assert str(caught.value) == message
