"""Options of a description on the command line: over its file, and held to the same rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from training.foreign_models import ENCODER, TANH, write

from latentserve_training import commands

Capture = pytest.CaptureFixture[str]
DESCRIBED: dict[str, Any] = {
    "kind": "vae",
    "latent_dim": 3,
    "prior": "standard_normal",
    "image_range": [-1, 1],
    "likelihood": "gaussian",
    "log_scale": 0.5,
    "decoder": {"file": "g.onnx"},
    "encoder": {"file": "e.onnx", "mean": "mu", "log_variance": "s"},
    "dataset": "cats",
}


def bring(folder: Path, settings: list[str], described: dict[str, Any] | None = None) -> int:
    write(folder / "g.onnx", TANH)
    write(folder / "e.onnx", ENCODER)
    (folder / "model.yaml").write_text(yaml.safe_dump(described or DESCRIBED))
    words = [word for setting in settings for word in ("--set", setting)]
    return commands.import_model(
        [str(folder / "model.yaml"), *words, "--repository", str(folder / "models"), "--name", "m"]
    )


def origin(folder: Path, version: int = 1) -> dict[str, Any]:
    """The description that a bundle keeps."""
    manifest = json.loads((folder / "models" / "m" / str(version) / "manifest.json").read_text())
    content: dict[str, Any] = json.loads(manifest["provenance"]["config_json"])
    return content


def test_a_setting_stands_for_a_line_of_the_file(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"family": "a: b", "log_scale": 1e-3, "labels": None}
    changes |= {"encoder": {**DESCRIBED["encoder"], "image": "a"}, "reading": {"background": [1, 2, 3]}}
    settings = ["family='a: b'", "log_scale=0.5", "log_scale=1e-3", "labels=null", "encoder.image=a"]
    assert bring(tmp_path, [*settings, "reading.background=[1, 2, 3]"]) == 0
    assert bring(tmp_path, [], DESCRIBED | changes) == 0
    assert origin(tmp_path, 1) == origin(tmp_path, 2)
    assert origin(tmp_path)["dataset"] == "cats"


def test_options_of_the_file_are_taken_away_by_null(tmp_path: Path) -> None:
    settings = ["kind=gan", "encoder=null", "likelihood=null", "log_scale=null"]
    assert bring(tmp_path, settings) == 0
    found = origin(tmp_path)
    assert found["kind"] == "gan"
    assert not {"encoder", "likelihood", "log_scale"} & found.keys()


def test_an_option_within_one_that_the_file_names_shortly(tmp_path: Path) -> None:
    moments = "e (float[N, 3, 2, 2] a) => (float[N, 6] p) { r = Flatten(a)\n p = MatMul(r, v) }"
    described = {**DESCRIBED, "encoder": {"file": "m.onnx", "moments": "p"}}
    write(tmp_path / "m.onnx", moments)
    assert bring(tmp_path, ["encoder.moments.axis=-1"], described) == 0
    assert origin(tmp_path)["encoder"]["moments"] == {
        "tensor": "p",
        "axis": -1,
        "order": ["mean", "log_variance"],
    }


FORM = "it must be KEY=VALUE, such as kind=vae or decoder.inputs.psi=0.7"
REFUSED: list[tuple[str, str]] = [
    ("kind", f"--set is kind; {FORM}"),
    ("=vae", f"--set is =vae; {FORM}"),
    ("decoder..file=g", f"--set is decoder..file=g; {FORM}"),
    ("image_range=[0, 1", "--set image_range: [0, 1 is no YAML: put text in quotes"),
    ("latent_dmi=4", "--set: latent_dmi: there is no such option; did you mean latent_dim?"),
    ("decoder.imagee=x", "--set: decoder.imagee: there is no such option; did you mean decoder.image?"),
    ("kind=flow", "--set: kind is flow; it must be one of vae, gan, autoencoder, vq"),
    ("decoder.latent=1", "--set: decoder.latent is 1; it must be text: put it in quotes"),
    ("decoder=g.onnx", "--set: decoder is 'g.onnx'; it must hold options of its own"),
    ("log_scale=1000", "--set: log_scale is 1000.0; it must be from -30 to 30"),
    (
        "reading.background=[0, 0]",
        "--set: reading.background is [0, 0]; it must be [red, green, blue], each from 0 to 255",
    ),
]
"""A setting, and what is said of it over a file and beside graphs alike."""


@pytest.mark.parametrize(("setting", "message"), REFUSED)
def test_a_wrong_setting_is_wrong_usage(tmp_path: Path, capsys: Capture, setting: str, message: str) -> None:
    assert bring(tmp_path, [setting]) == 2
    assert capsys.readouterr().err == f"latentserve-import: error: {message}\n"
    words = [str(tmp_path / "g.onnx"), str(tmp_path / "e.onnx"), "--describe-only", "--set", "encoder.log_variance=s"]
    told = ["prior=standard_normal", "likelihood=gaussian", *(["log_scale=0"] if "log_scale" not in setting else [])]
    assert commands.import_model([*words, *(word for one in told for word in ("--set", one)), "--set", setting]) == 2
    assert capsys.readouterr().err == f"latentserve-import: error: {message}\n"
    assert not (tmp_path / "models").exists()


def test_what_the_file_says_is_put_down_to_its_line(tmp_path: Path, capsys: Capture) -> None:
    assert bring(tmp_path, ["family=vae"], {**DESCRIBED, "image_range": [1, 0]}) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"latentserve-import: error: {tmp_path}/model.yaml:")
    assert ": image_range is [1.0, 0.0]; " in said


WORDS: list[tuple[list[str], str]] = [
    (["model.yaml", "e.onnx"], "e.onnx: belongs to no option; model.yaml names the encoder's file"),
    (["model.yaml", "--describe-only"], "--describe-only is for ONNX files; model.yaml is a description already"),
    (
        ["g.onnx", "--set", "decoder.file=other.onnx"],
        "--set: decoder.file is not for a file that is named by itself, here g.onnx",
    ),
    (
        ["g.onnx", "e.onnx", "--set", "encoder.file=other.onnx"],
        "--set: encoder.file is not for a file that is named by itself, here e.onnx",
    ),
]


@pytest.mark.parametrize(("words", "message"), WORDS)
def test_words_that_do_not_go_together_are_wrong_usage(capsys: Capture, words: list[str], message: str) -> None:
    assert commands.import_model([*words, "--repository", "models", "--name", "m"]) == 2
    assert capsys.readouterr().err == f"latentserve-import: error: {message}\n"


def test_a_bundle_s_place_is_needed_where_one_is_made(tmp_path: Path, capsys: Capture) -> None:
    graph = str(write(tmp_path / "g.onnx", TANH))
    assert commands.import_model([graph]) == 2
    assert capsys.readouterr().err == "latentserve-import: error: --repository, --name are missing\n"
    told = ["--set", "kind=gan", "--set", "prior=standard_normal", "--describe-only"]
    assert commands.import_model([graph, *told]) == 0
    assert commands.import_model([graph, *told, "--repository", str(tmp_path / "models"), "--name", "m"]) == 0
    assert not (tmp_path / "models").exists()
