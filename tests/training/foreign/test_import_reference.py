"""Importing with what the model's own framework drew, and what an import says of the prior."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from training.foreign_models import ENCODER, GAN, TANH, VAE, WEIGHTS, bring, write

from latentserve_training import commands

Capture = pytest.CaptureFixture[str]
Arrays = dict[str, NDArray[Any]]

MODEL = {**VAE, "image_range": [-1, 1], "likelihood": "gaussian", "log_scale": 0.0, "prior": "standard_normal"}
OWN = np.random.default_rng(1).standard_normal((70, 3), dtype=np.float32)


def drawn(latents: NDArray[np.float32] = OWN) -> NDArray[np.float32]:
    return np.tanh(latents @ WEIGHTS["w"]).reshape(-1, 3, 2, 2)


def posterior() -> NDArray[np.float32]:
    return drawn().reshape(-1, 12) @ WEIGHTS["v"]


def one_array() -> bytes:
    """A NumPy file that is no archive."""
    buffer = io.BytesIO()
    np.save(buffer, OWN)
    return buffer.getvalue()


def bring_with(folder: Path, description: dict[str, Any], arrays: Arrays, *options: str) -> int:
    np.savez(folder / "samples.npz", **arrays)
    (folder / "model.yaml").write_text(yaml.safe_dump(description))
    argv = ["--repository", str(folder / "models"), "--name", "m", "--reference", str(folder / "samples.npz")]
    return commands.import_model([str(folder / "model.yaml"), *argv, *options])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", ENCODER)
    return tmp_path


@pytest.mark.parametrize("spread", ["log_variance", "variance"])
def test_what_another_framework_drew_is_drawn_again(folder: Path, capsys: Capture, spread: str) -> None:
    """More rows than a batch, in the graphs' own units."""
    wide = posterior()[:, 3:]
    arrays: Arrays = {"latent": OWN, "image": drawn(), "mean": posterior()[:, :3]}
    arrays[spread] = wide if spread == "log_variance" else np.exp(wide)
    assert bring_with(folder, {**MODEL, "latent_scale": 0.5, "latent_shift": 1.0}, arrays) == 0
    encoder, decoder = capsys.readouterr().err.splitlines()
    assert encoder.startswith("latentserve-import: encoder: largest difference from 70 rows of samples.npz: mean ")
    assert decoder.startswith("latentserve-import: decoder: largest difference from 70 rows of samples.npz: image ")
    assert float(decoder.rpartition(" ")[2]) < 1e-5
    card = (folder / "models" / "m" / "1" / "CARD.md").read_text()
    assert decoder.removeprefix("latentserve-import: ") in card


def test_a_reference_may_be_of_one_graph_alone(folder: Path, capsys: Capture) -> None:
    assert bring_with(folder, MODEL, {"latent": OWN, "image": drawn()}) == 0
    assert "decoder" in (said := capsys.readouterr().err)
    assert "encoder" not in said
    assert bring_with(folder, MODEL, {"image": drawn(), "mean": posterior()[:, :3]}) == 0
    assert "encoder" in (said := capsys.readouterr().err)
    assert "decoder" not in said


def test_a_reference_has_the_graph_s_layout_and_is_clipped_as_the_graph_is(tmp_path: Path) -> None:
    last = TANH.replace("[N, 3, 2, 2] x", "[N, 2, 2, 3] x")
    write(tmp_path / "g.onnx", last.replace("y = Tanh(h)\n x = Reshape(y, shape)", "x = Reshape(h, last)"))
    image = (OWN @ WEIGHTS["w"]).reshape(-1, 2, 2, 3)
    described = {**GAN, "image_range": [-1, 1], "clip": True}
    assert bring_with(tmp_path, described, {"latent": OWN, "image": image}) == 0
    assert bring_with(tmp_path, described, {"latent": OWN, "image": image.transpose(0, 3, 1, 2)}) == 1


def test_a_reference_of_a_conditional_model_has_labels(tmp_path: Path, capsys: Capture) -> None:
    graph = TANH.replace("float[N, 3] z", "float[N, 3] z, int64[N] c").replace(
        "y = Tanh(h)", "e = Gather(table, c)\n m = Add(h, e)\n y = Tanh(m)"
    )
    write(tmp_path / "g.onnx", graph)
    described = {**GAN, "image_range": [-1, 1], "labels": 4, "decoder": {"file": "g.onnx", "label": "c"}}
    labels = np.arange(70) % 4
    image = np.tanh(OWN @ WEIGHTS["w"] + WEIGHTS["table"][labels])
    assert bring_with(tmp_path, described, {"latent": OWN, "image": image, "label": labels}) == 0
    capsys.readouterr()
    for wrong, message in (
        ({}, "label is missing; the model has labels 0 to 3"),
        ({"label": labels + 1}, "label must hold whole numbers from 0 to 3"),
        ({"label": labels / 4}, "label must hold whole numbers from 0 to 3"),
    ):
        assert bring_with(tmp_path, described, {"latent": OWN, "image": image, **wrong}) == 1
        assert message in capsys.readouterr().err


def test_the_tolerance_is_an_option(folder: Path, capsys: Capture) -> None:
    arrays = {"latent": OWN, "image": drawn() + np.float32(1e-3)}
    assert bring_with(folder, MODEL, arrays) == 1
    line = capsys.readouterr().err
    assert "decoder: image differs from samples.npz by 0.0005" in line
    assert "allowed is 0.0001" in line
    assert not list(folder.glob("models/m/*"))
    assert bring_with(folder, MODEL, arrays, "--reference-tolerance", "0.001") == 0
    for tolerance in ("0", "nan", "1"):
        assert bring_with(folder, MODEL, arrays, "--reference-tolerance", tolerance) == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"latent": OWN, "image": drawn()[:5]},
            (
                "{folder}/samples.npz: rows are {'latent': 70, 'image': 5}; every array must have as "
                "many, and at least one"
            ),
        ),
        (
            {"latent": OWN, "picture": drawn()},
            (
                "{folder}/samples.npz: arrays are ['latent', 'picture']; known are latent, image, label, "
                "mean, codes, log_variance, variance, standard_deviation, log_standard_deviation, "
                "standard_deviation_before_softplus"
            ),
        ),
        (
            {"latent": OWN},
            ("{folder}/samples.npz: nothing to compare; name latent and image, or image and mean"),
        ),
        ({}, "{folder}/samples.npz: rows are {}; every array must have as many, and at least one"),
        (
            {"latent": OWN[:, :2], "image": drawn()},
            "{folder}/samples.npz: latent is [70, 2] for 70 rows; it must be [70, 3]",
        ),
        (
            {"latent": OWN, "image": drawn()[:, :2]},
            "{folder}/samples.npz: image is [70, 2, 2, 2] for 70 rows; it must be [70, 3, 2, 2]",
        ),
        ({"latent": OWN, "image": drawn() * np.nan}, "{folder}/samples.npz: image must hold finite numbers"),
        (
            {"latent": OWN, "image": drawn().astype(object)},
            "{folder}/samples.npz: not a NumPy archive (.npz) of numbers",
        ),
        (
            {"latent": np.float32(1), "image": drawn()},
            (
                "{folder}/samples.npz: rows are {'latent': 0, 'image': 70}; every array must have as "
                "many, and at least one"
            ),
        ),
        (
            {"image": drawn(), "mean": OWN, "variance": OWN, "log_variance": OWN},
            ("{folder}/samples.npz: arrays are ['image', 'log_variance', 'mean', 'variance']; there may be one spread"),
        ),
        (
            {"image": drawn(), "mean": posterior()[:, :3], "variance": -np.exp(OWN)},
            (
                "encoder: {folder}/samples.npz: variance is not positive everywhere, as variances are; "
                "the logarithm of a variance is named in encoder.log_variance"
            ),
        ),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(folder: Path, capsys: Capture, arrays: Arrays, message: str) -> None:
    assert bring_with(folder, MODEL, arrays) == 1
    assert capsys.readouterr().err == f"latentserve-import: error: {message.replace('{folder}', str(folder))}\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "samples.npz: No such file or directory"),
        (lambda path: path.write_bytes(b""), "samples.npz: not a NumPy archive (.npz) of numbers"),
        (lambda path: path.write_bytes(b"PK\3\4 and no more"), "samples.npz: not a NumPy archive (.npz) of numbers"),
        (lambda path: path.write_text("latent: 1"), "samples.npz: not a NumPy archive (.npz) of numbers"),
        (lambda path: path.write_bytes(one_array()), "samples.npz: not a NumPy archive (.npz) of numbers"),
    ],
)
def test_a_reference_that_cannot_be_read_is_refused(
    folder: Path, capsys: Capture, damage: Callable[[Path], object], message: str
) -> None:
    assert bring(folder, MODEL) == 0
    path = folder / "samples.npz"
    path.touch()
    damage(path)
    argv = [str(folder / "model.yaml"), "--repository", str(folder / "models"), "--name", "m"]
    assert commands.import_model([*argv, "--reference", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"prior": "standard_normal"}, None),
        ({"prior": "standard_normal", "family": "pythae VAMP"}, None),
        ({}, "drawn from N(0, I), and the description does not say that this is the model's prior"),
        ({"family": "conv_vae"}, "drawn from N(0, I), and the description does not say"),
        ({"family": "pythae VAMP"}, "probably not the prior of the family 'pythae VAMP': VampPrior is a mixture"),
        ({"family": "VAE_LinNF"}, "probably not the prior of the family 'VAE_LinNF': a flow may be"),
        ({"family": "vq-vae"}, "probably not the prior of the family 'vq-vae': its latents are codes"),
    ],
)
def test_a_prior_that_nobody_states_is_doubted(
    folder: Path, capsys: Capture, described: dict[str, str], message: str | None
) -> None:
    model = {key: value for key, value in MODEL.items() if key != "prior"}
    assert bring(folder, {**model, **described}) == 0
    said = capsys.readouterr().err
    card = (folder / "models" / "m" / "1" / "CARD.md").read_text()
    if message is None:
        assert said == ""
        assert "prior: samples" not in card
        return
    assert said.startswith("latentserve-import: warning: prior: samples are ")
    assert message in said
    assert message in card


def test_a_gan_s_prior_is_not_doubted(folder: Path, capsys: Capture) -> None:
    assert bring(folder, {**GAN, "image_range": [-1, 1]}) == 0
    assert capsys.readouterr().err == ""
