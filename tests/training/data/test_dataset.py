"""Digits, folders of images, and the cut into splits."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image
from training.full_disk import train_within

from latentserve_training import commands
from latentserve_training.data import DataConfig, Dataset, Split, load
from latentserve_training.data.dataset import cut
from latentserve_training.data.folder import Folder
from latentserve_training.data.placement import Placement, has_room, machine_memory, on_disk
from latentserve_training.errors import DataError

RNG = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def read_folder(root: Path, size: int | None) -> Split:
    folder = Folder.under(root, size)
    return folder.read(np.arange(len(folder)))


@given(st.integers(1, 60), st.lists(st.floats(0.01, 0.49), min_size=1, max_size=2), st.integers(0, 2**31))
def test_a_cut_keeps_every_image_once_and_depends_on_the_seed_alone(n: int, fractions: list[float], seed: int) -> None:
    parts = cut(n, tuple(fractions), seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part, same in zip(parts, cut(n, tuple(fractions), seed), strict=True):
        np.testing.assert_array_equal(part, same)
    assert [len(part) for part in parts[:-1]] == [round(fraction * n) for fraction in fractions]


def test_digits_fill_three_disjoint_splits() -> None:
    dataset = load(DataConfig(name="digits"))
    assert dataset.image_shape == (1, 28, 28)
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split) for split in splits] == [1437, 180, 180]
    pixels = [{image.tobytes() for image in split.images} for split in splits]
    assert not pixels[0] & pixels[1]
    assert not pixels[0] & pixels[2]
    assert not pixels[1] & pixels[2]
    for split in splits:
        assert split.labels is not None
        assert set(split.labels.tolist()) == set(range(10))
    assert dataset.label_names == tuple("0123456789")


def test_large_digits_use_the_whole_range_and_keep_their_margin_empty() -> None:
    images = load(DataConfig(name="digits", size=28)).train.images
    assert (images.min(), images.max()) == (0, 255)
    assert images[:, :, 0].mean() < 1
    assert 0.1 < (images > 127).mean() < 0.3


def test_the_digest_covers_shape_and_every_pixel_of_the_training_images() -> None:
    def digest(images: NDArray[np.uint8]) -> str:
        other = Split(noise(4, *images.shape[1:]))
        return Dataset("data", Split(images), other, other).sha256

    images = noise(5, 1, 4, 6)
    changed = images.copy()
    changed[2, 0, 3, 5] ^= 1
    digests = {digest(images), digest(changed), digest(images.reshape(5, 1, 6, 4)), digest(images[:4])}
    assert len(digests) == 4
    assert digest(images.copy()) == digest(images)


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_digests_cover_held_out_images_and_every_label(role: str) -> None:
    splits = {name: Split(noise(4, 1, 4, 4), np.arange(4), tuple("abcd")) for name in ("train", "validation", "test")}
    images, labels = splits[role].images.copy(), splits[role].labels
    images[3, 0, 3, 3] ^= 1
    whole = Dataset("data", **splits)
    repainted = Dataset("data", **splits | {role: replace(splits[role], images=images)})
    assert (repainted.sha256 == whole.sha256) == (role != "train")
    assert (repainted.held_out_sha256 == whole.held_out_sha256) == (role == "train")
    assert repainted.labels_sha256 == whole.labels_sha256
    assert labels is not None
    renamed = Dataset("data", **splits | {role: replace(splits[role], labels=labels[::-1].copy())})
    assert (renamed.sha256, renamed.held_out_sha256) == (whole.sha256, whole.held_out_sha256)
    assert renamed.labels_sha256 != whole.labels_sha256
    assert Dataset("data", *(Split(split.images) for split in splits.values())).labels_sha256 == ""


def test_a_folder_of_grey_files_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    second, first = save(tmp_path / "b.png", noise(6, 8)), save(tmp_path / "a.bmp", noise(6, 8))
    (tmp_path / "notes.txt").write_text("not an image")
    split = read_folder(tmp_path, size=None)
    np.testing.assert_array_equal(split.images, np.stack([first, second])[:, np.newaxis])
    assert split.labels is None


def test_one_colour_file_makes_all_rgb_and_subfolders_are_classes(tmp_path: Path) -> None:
    grey, colour = (
        save(tmp_path / "cat" / "1.png", noise(4, 4)),
        save(tmp_path / "dog" / "deep" / "1.png", noise(4, 4, 3)),
    )
    split = read_folder(tmp_path, size=None)
    assert split.images.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(split.images[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(split.images[1], colour.transpose(2, 0, 1))
    assert split.labels is not None
    assert split.labels.tolist() == [0, 1]
    assert split.label_names == ("cat", "dog")


@pytest.mark.parametrize("in_file", [False, True])
def test_rows_of_a_folder_are_the_files_of_their_paths(tmp_path: Path, in_file: bool) -> None:
    pixels = np.stack([save(tmp_path / f"{'ab'[n % 2]}" / f"{n:02}.png", noise(4, 6, 3)) for n in range(20)])
    paths = sorted(range(20), key=lambda n: (n % 2, n))
    rows = np.array([7, 0, 19, 7])
    split = Folder.under(tmp_path, size=None).read(rows, in_file=in_file)
    np.testing.assert_array_equal(split.images, pixels[[paths[row] for row in rows]].transpose(0, 3, 1, 2))
    assert split.labels is not None
    assert split.labels.tolist() == [0, 0, 1, 0]


def test_more_files_than_are_decoded_ahead_keep_their_order(tmp_path: Path) -> None:
    pixels = np.stack([save(tmp_path / f"{n:03}.png", noise(4, 4)) for n in range(150)])
    np.testing.assert_array_equal(read_folder(tmp_path, size=None).images[:, 0], pixels)


@pytest.mark.parametrize(
    ("placement", "size", "expected"),
    [("auto", 500, False), ("auto", 501, True), ("memory", 501, False), ("device", 501, False), ("disk", 1, True)],
)
def test_images_lie_on_disk_where_they_would_fill_more_than_half(
    placement: Placement, size: int, expected: bool
) -> None:
    assert on_disk(placement, size, memory=1000) is expected
    assert has_room(10**6, machine_memory())


def test_images_that_do_not_fit_on_disk_are_one_line(tmp_path: Path) -> None:
    for n in range(40):
        save(tmp_path / "images" / f"{n}.png", noise(64, 64))
    argv = ["--model.family", "mlp_vae", "--data.name", "folder", "--data.root", str(tmp_path / "images")]
    argv += ["--data.placement", "disk", "--output", str(tmp_path / "run")]
    ended = train_within(10_000, argv, {"TMPDIR": str(tmp_path)})
    assert ended.returncode == 1
    assert ended.stderr == (
        f"latentserve-train: error: 16,384 bytes of images do not fit into {tmp_path}: File too large; "
        "set TMPDIR to a folder with room\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_with_loose_files_has_no_classes(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "1.png", noise(4, 4))
    save(tmp_path / "2.png", noise(4, 4))
    assert read_folder(tmp_path, size=None).labels is None


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png", noise(4, 4))
    save(tmp_path / "images" / "dog" / "1.png", noise(4, 4))
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "dog" / "again").symlink_to(tmp_path / "images")
    found = Folder.under(tmp_path / "images", size=None)
    assert [path.parent.name for path in found.paths] == ["cat", "dog"]
    assert found.label_names == ("cat", "dog")


def test_files_that_are_no_pictures_are_counted(tmp_path: Path) -> None:
    save(tmp_path / "1.png", noise(4, 4))
    for name in ("a.heic", "b.HEIC", "README", "notes.txt", "more.txt", "c.heic"):
        (tmp_path / name).write_text("no picture")
    remarks = Folder.under(tmp_path, size=None).remarks
    assert "passed over: files of other kinds, 6: .heic (3), .txt (2), no suffix (1)" in remarks


def test_the_classes_are_named_or_what_stands_in_their_way(tmp_path: Path) -> None:
    for place in ("black cat", "dog", "dog/deep"):
        save(tmp_path / place / "1.png", noise(4, 4))
    assert "classes are the subfolders, 2: black cat, dog" in Folder.under(tmp_path, size=None).remarks
    save(tmp_path / "loose.png", noise(4, 4))
    line = f"there are no classes: 1 of 4 files lie in no subfolder, such as {tmp_path / 'loose.png'}"
    assert line in Folder.under(tmp_path, size=None).remarks
    for number in range(9):
        save(tmp_path / "many" / f"{number}" / "1.png", noise(4, 4))
    (line,) = (line for line in Folder.under(tmp_path / "many", size=None).remarks if "classes" in line)
    assert line == "classes are the subfolders, 9: 0, 1, 2, 3, 4, 5, 6, 7, …"


def test_classes_without_a_training_image_are_counted(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / f"class {number:02}" / "1.png", noise(4, 4))
    for number in range(20):
        save(tmp_path / "often" / f"{number}.png", noise(4, 4))
    dataset = load(DataConfig(name="folder", root=tmp_path))
    taught = set() if dataset.train.labels is None else set(dataset.train.labels.tolist())
    missing = [name for number, name in enumerate(dataset.label_names) if number not in taught]
    line = f"{len(missing)} of 21 classes have no image among those for training, such as {missing[0]}"
    assert line in dataset.remarks


def test_hidden_names_are_passed_over(tmp_path: Path) -> None:
    for place in ("cat/1.png", "dog/1.png"):
        save(tmp_path / place, noise(4, 4))
    shown = Folder.under(tmp_path, size=None)
    assert not [line for line in shown.remarks if "hidden" in line]
    for place in (".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/cat/1.png", "cat/.thumbnails/1.png"):
        save(tmp_path / place, noise(4, 4, 3))
    (tmp_path / "cat" / "._1.png").write_bytes(b"what macOS keeps beside a file")
    found = Folder.under(tmp_path, size=None)
    assert (found.paths, found.label_names, found.grey) == (shown.paths, ("cat", "dog"), True)
    (line,) = (line for line in found.remarks if "hidden" in line)
    example = tmp_path / ".ipynb_checkpoints"
    assert line == f"passed over: hidden names (a leading dot, or __MACOSX), 4, such as {example}"


def test_a_hidden_root_is_what_was_asked_for(tmp_path: Path) -> None:
    save(tmp_path / ".data" / "1.png", noise(4, 4))
    assert len(Folder.under(tmp_path / ".data", size=None)) == 1


def test_a_name_that_is_no_text_is_told_escaped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        save(tmp_path / f"caf\udce9-{number:02}.png", noise(4, 4, 3))
    argv = ["--model.family", "mlp_vae", "--model.wide", "8", "--model.narrow", "8", "--dry_run"]
    assert (
        commands.train([*argv, "--trainer.batch_size", "8", "--data.name", "folder", "--data.root", str(tmp_path)]) == 0
    )
    assert r"in colour or have a palette, such as" in (told := capfd.readouterr().out)
    assert r"caf\udce9-00.png" in told


@pytest.mark.parametrize("more", [["--dry_run"], []])
def test_training_says_what_was_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    for number in range(40):
        save(tmp_path / "images" / f"{number}.png", noise(4, 4))
    save(tmp_path / "images" / ".kept" / "1.png", noise(4, 4))
    argv = ["--model.family", "mlp_vae", "--model.wide", "8", "--model.narrow", "8", "--trainer.epochs", "1"]
    argv += ["--trainer.batch_size", "8", "--data.name", "folder", "--data.root", str(tmp_path / "images")]
    assert commands.train([*argv, "--output", str(tmp_path / "run"), *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    example = tmp_path / "images" / ".kept"
    assert f"passed over: hidden names (a leading dot, or __MACOSX), 1, such as {example}" in lines
    assert "images have 1 channel: all 40 files are grey" in lines


def test_sizes_must_agree_unless_all_are_resized(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(4, 4))
    save(tmp_path / "b.png", noise(4, 8))
    with pytest.raises(DataError):
        read_folder(tmp_path, size=None)
    assert read_folder(tmp_path, size=12).images.shape == (2, 1, 12, 12)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_image_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Bytes changed anywhere in a PNG, its chunks' lengths, names and checksums among them."""
    rng = np.random.default_rng(seed)
    save(tmp_path / "broken.png", noise(8, 8, 3))
    content = bytearray((tmp_path / "broken.png").read_bytes())
    for place in rng.integers(8, len(content), 1 + seed % 4):
        content[place] = rng.integers(256)
    (tmp_path / "broken.png").write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_folder(tmp_path, size=8).images.shape[2:] == (8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_black(tmp_path: Path, mode: str) -> None:
    """The left half is opaque and the right half hides its colour."""
    picture = Image.new("RGBA", (4, 2), (200, 200, 200, 255))
    picture.paste((200, 200, 200, 0), (2, 0, 4, 2))
    if mode == "P":
        picture = Image.fromarray(np.tile(np.array([0, 0, 1, 1], np.uint8), (2, 1))).convert("P")
        picture.putpalette([200] * 6)
        picture.save(tmp_path / "half.gif", transparency=1)
    else:
        picture.convert(mode).save(tmp_path / "half.png")
    images = read_folder(tmp_path, size=None).images
    assert images.shape[1] == (1 if mode == "LA" else 3)
    assert (images[..., :2] == 200).all()
    assert (images[..., 2:] == 0).all()


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the top of the scene is at the right of the pixels' rows
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_folder(tmp_path, size=None).images[0, 0], np.rot90(pixels, -1))
