"""What is said of saved models that cannot be imported, before the library that saved them is asked."""

from __future__ import annotations

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from latentserve_training import commands

VAE = {"name": "VAEConfig", "input_dim": [1, 8, 8]}
KNOWN_DIFFUSERS = "known are AutoencoderKL, AutoencoderTiny, AutoencoderDC, VQModel"


@pytest.fixture(autouse=True)
def _saved(tmp_path: Path) -> None:
    """What libraries save, as far as it is looked at before they are needed."""

    def write(path: str, content: Any) -> None:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content if isinstance(content, str) else json.dumps(content))

    write("kl/config.json", {"_class_name": "AutoencoderKL", "sample_size": 32})
    write("unet/config.json", {"_class_name": "UNet2DModel"})
    write("broken/config.json", "{")
    write("listed/config.json", [])
    write("pipeline/model_index.json", {})
    write("vae/model_config.json", VAE)
    write("sphere/model_config.json", VAE | {"name": "SVAEConfig"})
    write("own/model_config.json", VAE | {"uses_default_encoder": False})
    write("judge/model_config.json", VAE | {"name": "VAEGANConfig", "uses_default_discriminator": False})
    write("text.keras", "no archive")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str]:
    """The exit code and what is said of a command line whose words with a slash lie in the folder."""
    words = [word.replace("@", f"{folder}/") for word in line.split()]
    code = commands.import_model([*words, "--repository", str(folder / "models"), "--name", "mine"])
    assert not (folder / "models").exists()
    said = capsys.readouterr().err.strip()
    return code, said.replace(f"{folder}/", "").removeprefix("latentserve-import: error: ")


OPTIONS = [
    ("@kl --from onnx", "--from is onnx; it must be one of diffusers, pythae, keras"),
    ("@none --from keras", "none: there is no such file or folder"),
    ("@kl --image-size 32", "--image-size is for --from diffusers; --from is missing"),
    ("@vae --from pythae --image-size 32", "--image-size is for --from diffusers; --from is pythae"),
    ("@kl --from diffusers --image-size 0", "--image-size is 0; it must be at least 1"),
    ("@kl @model.keras --from diffusers", "ENCODER is for --from keras; --from is diffusers"),
    ("@own --from pythae --encoder-class nets.py", "--encoder-class is nets.py; it must be MODULE:CLASS"),
    (
        "@kl --from diffusers --set encoder.file=e.onnx",
        "--set: encoder.file is not for a file that is named by itself, here kl",
    ),
    (
        "@kl --from diffusers --set codebook=3",
        "--set: codebook: there is no such option",
    ),
    (
        "@kl --from diffusers --reference a.npz",
        "--reference is for a description; with --from the library itself is the reference",
    ),
]
FILES = [
    (
        "@model.keras --from diffusers",
        "model.keras: not a folder; it must be one that save_pretrained of diffusers wrote",
    ),
    (
        "@vae --from diffusers",
        "vae: there is no config.json; it must be a folder that save_pretrained of diffusers wrote",
    ),
    ("@pipeline --from diffusers", "pipeline: a pipeline; give the folder of its autoencoder, such as pipeline/vae"),
    ("@unet --from diffusers", f"unet/config.json: _class_name is UNet2DModel; {KNOWN_DIFFUSERS}"),
    (
        "@broken --from diffusers",
        "broken/config.json: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
    ("@listed --from diffusers", "listed/config.json: holds no mapping of settings"),
    (
        "@own --from pythae",
        "own: its encoder lies in encoder.pkl, whose code would run as it is loaded; name its class in the place of "
        "that: --encoder-class MODULE:CLASS",
    ),
    ("@judge --from pythae", "judge: its discriminator is a pickle, whose code would run; it is not loaded"),
    (
        "@vae --from pythae --decoder-class nets:Decoder",
        "--decoder-class is for a model with a network of your own; vae has pythae's",
    ),
    ("@kl --from keras", "kl: not a file of Keras; it must be a .keras file that Model.save wrote"),
    ("@text.keras --from keras", "text.keras: not a file of Keras; it must be a .keras file that Model.save wrote"),
    (
        "@model.keras @none.keras --from keras",
        "none.keras: there is no such file; it must be a .keras file that Model.save wrote",
    ),
]


@pytest.mark.parametrize(("line", "message"), OPTIONS)
def test_options_that_do_not_go_together_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert refusal(tmp_path, capsys, line) == (2, message)


@pytest.mark.parametrize(("line", "message"), FILES)
def test_what_the_library_did_not_save_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert refusal(tmp_path, capsys, line) == (1, message)


def test_a_model_whose_latents_a_server_cannot_draw_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = refusal(tmp_path, capsys, "@sphere --from pythae")
    assert code == 1
    assert said.startswith("sphere/model_config.json: it is of SVAE; known are VAE, ")


@pytest.mark.parametrize(
    ("path", "library"), [("kl", "diffusers"), ("vae", "pythae"), ("model.keras", "keras")], ids=str
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, library: str
) -> None:
    if find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    message = (
        f"--from {library}: the package {library} is not installed; "
        f"the extra brings it: pip install 'latentserve-training[{library}]'"
    )
    assert refusal(tmp_path, capsys, f"@{path} --from {library}") == (1, message)
