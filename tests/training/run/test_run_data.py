"""A run stays with its data: other images, labels or held-out images are refused, wherever they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training.resumed_runs import assert_same, refused
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.data import DataConfig, load

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty images in two classes."""
    rng = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            path = tmp_path / "images" / label / f"{number:02}.png"
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def on(images: Path, family: str = "cvae") -> list[str]:
    data = ("--data.name", "folder", "--data.root", str(images), "--trainer.batch_size", "8")
    return arguments(family, images.parent / "run", *data, "--trainer.epochs", "1")


def refused_by_both(capsys: Capture, images: Path) -> str:
    """What training and evaluation say alike."""
    ours = refused(capsys, on(images)).removeprefix("latentserve-train: error: ")
    assert commands.evaluate([str(images.parent / "run"), "--data-root", str(images), "--quick"]) == 1
    theirs = capsys.readouterr().err.removeprefix("latentserve-evaluate: error: ")
    said, _, remedy = ours.partition("; ")
    assert theirs == f"{said}; set --data-root to the folder of the original data\n"
    assert remedy.startswith("choose another folder than --output")
    return said


@pytest.fixture
def trained_on(images: Path, capsys: Capture) -> Path:
    """The images after a run on them."""
    assert commands.train(on(images)) == 0
    capsys.readouterr()
    return images


def test_the_data_may_move(trained_on: Path) -> None:
    assert commands.train(on(trained_on.rename(trained_on.parent / "moved"))) == 0


@pytest.mark.parametrize("placement", ["device", "memory", "disk"])
def test_where_the_images_lie_is_free_to_change_and_changes_nothing(images: Path, placement: str) -> None:
    assert commands.train([*on(images), "--trainer.epochs", "2"]) == 0
    moved = [*on(images), "--output", str(images.parent / "moved")]
    assert commands.train([*moved, "--data.placement", placement]) == 0
    assert commands.train([*moved, "--trainer.epochs", "2"]) == 0
    assert_same(images.parent / "run", images.parent / "moved")


def test_other_training_images_are_refused(trained_on: Path, capsys: Capture) -> None:
    _repaint(trained_on, load(DataConfig(name="folder", root=trained_on)).train.images[0])
    assert "the run is of training images with digest" in refused_by_both(capsys, trained_on)


@pytest.mark.parametrize("role", ["validation", "test"])
def test_other_held_out_images_are_refused(trained_on: Path, capsys: Capture, role: str) -> None:
    _repaint(trained_on, getattr(load(DataConfig(name="folder", root=trained_on)), role).images[0])
    assert "the run is of validation and test images with digest" in refused_by_both(capsys, trained_on)


def test_a_class_of_another_name_is_refused(trained_on: Path, capsys: Capture) -> None:
    (trained_on / "dogs").rename(trained_on / "foxes")
    said = refused_by_both(capsys, trained_on)
    assert said == "the run is of labels cats, dogs, but the data has cats, foxes"


def test_images_that_changed_their_class_are_refused(trained_on: Path, capsys: Capture) -> None:
    """The last cat is now the first dog: the images, in the order of their paths, are the same."""
    (trained_on / "cats" / "19.png").rename(trained_on / "dogs" / "!.png")
    assert "the run is of labels with digest" in refused_by_both(capsys, trained_on)


def test_a_folder_that_lost_its_classes_is_refused(trained_on: Path, capsys: Capture) -> None:
    for path in list(trained_on.glob("*/*.png")):
        path.rename(trained_on / f"{path.parent.name}-{path.name}")
    for label in ("cats", "dogs"):
        shutil.rmtree(trained_on / label)
    assert refused_by_both(capsys, trained_on) == "the run is of labels cats, dogs, but the data has none"


def _repaint(images: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Change a pixel of the file that holds these pixels [1, height, width]."""
    for path in images.glob("*/*.png"):
        content = np.asarray(Image.open(path)).copy()
        if np.array_equal(content, pixels[0]):
            content[0, 0] ^= 1
            Image.fromarray(content).save(path)
            return
    raise AssertionError("no file holds them")
