"""Models that diffusers and Keras saved, each imported by one command and served: the answers are the library's own.

`make test-zoo` runs this. Models get seeded weights and are saved in their library's environment; the command runs with
that environment's packages behind the training's own.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from training.saved_models import Imports, Touch, import_saved, served

ROOT = Path(__file__).parents[2]
SAVES = Path(__file__).parent / "saved"
LIMIT = 1e-4
SECONDS = 900
SIZE = ("--image-size", "32")
OPTIONS = {"tiny": SIZE, "dc": SIZE, "tiny-odd": ("--image-size", "30")}
"""Of models of diffusers, beside their folder."""
GAN = ("--set", "kind=gan", "--set", "prior=standard_normal")
ANSWERS = {
    "vae": ("--set", "likelihood=bernoulli", "--set", "prior=standard_normal"),
    "gan": GAN,
    "labelled": GAN,
}
"""Of models of Keras, whose files do not say what they were trained for."""
UNTAKEN = ("lambda", "custom-layer", "moments", "unnamed")
"""Encoders of Keras."""


def save(program: str, backend: str, folder: Path) -> None:
    """Have a program of saved/ write into the folder, in the environment of a backend."""
    python = ROOT / ".venv" / f"zoo-{backend}" / "bin" / "python"
    command = [python, "-W", "ignore", SAVES / f"{program}.py", folder]
    subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": backend}, timeout=SECONDS)


def packages(backend: str) -> Path:
    (folder,) = (ROOT / ".venv" / f"zoo-{backend}").glob("lib/python3.*/site-packages")
    return folder


@pytest.fixture(scope="module")
def diffusers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What diffusers saved, and folders that it did not save so."""
    folder = tmp_path_factory.mktemp("diffusers")
    save("diffusers_saves", "torch", folder)
    settings = (folder / "kl" / "saved" / "config.json").read_bytes()
    for name, weights in {"code": Touch(folder / "ran"), "few": torch.zeros(32)}.items():
        (folder / name / "saved").mkdir(parents=True)
        (folder / name / "saved" / "config.json").write_bytes(settings)
        torch.save({"decoder.conv_in.bias": weights}, folder / name / "saved" / "diffusion_pytorch_model.bin")
    for name in ("tiny-odd", "tiny-unsized"):
        (folder / name).mkdir()
        (folder / name / "saved").symlink_to(folder / "tiny" / "saved")
    return folder


@pytest.fixture(scope="module")
def from_diffusers(diffusers: Path, tmp_path_factory: pytest.TempPathFactory) -> Imports:
    names = [path.parent.name for path in diffusers.glob("*/saved")]
    words = {name: [diffusers / name / "saved", "--from", "diffusers", *OPTIONS.get(name, ())] for name in names}
    return import_saved(packages("torch"), tmp_path_factory.mktemp("models"), words)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("kl", "vae"), ("kl-shifted", "vae"), ("tiny", "autoencoder"), ("dc", "autoencoder"), ("vq", "vq")],
)
async def test_the_served_model_is_the_one_that_diffusers_saved(
    diffusers: Path, from_diffusers: Imports, name: str, kind: str
) -> None:
    assert from_diffusers.codes[name] == 0, from_diffusers.said
    info, differences = await served(from_diffusers.repository, name, diffusers / name / "expected.npz")
    assert info.kind == kind
    assert max(differences.values()) <= LIMIT, differences


def test_what_diffusers_says_is_told_with_the_reason(from_diffusers: Imports) -> None:
    assert "# scaling_factor, with which pipelines hand latents on\nlatent_scale: 1.5305\n" in from_diffusers.said
    assert "# as diffusers' VaeImageProcessor normalises pictures\nimage_range: [-1, 1]\n" in from_diffusers.said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("code", "code/saved: diffusers cannot load it: "),
        ("few", " parameters are missing"),
        ("tiny-unsized", "--image-size is missing; the configuration of an AutoencoderTiny does not tell it"),
        ("tiny-odd", "--image-size is 30, of which the decoder makes 32 x 32"),
    ],
)
def test_what_diffusers_cannot_load_whole_or_run_is_refused(
    diffusers: Path, from_diffusers: Imports, name: str, message: str
) -> None:
    assert from_diffusers.codes[name] == 1
    assert message in from_diffusers.said
    assert not (diffusers / "ran").exists()


@pytest.fixture(scope="module", params=["torch", "jax", "tensorflow"])
def keras(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Imports]:
    """What Keras saved with a backend, and what came of its import with the same."""
    backend, folder = request.param, tmp_path_factory.mktemp("keras")
    save("keras_saves", backend, folder)
    words = {path.parent.name: [path, *path.parent.glob("encoder.keras")] for path in folder.glob("*/saved.keras")}
    words |= {name: [folder / "vae" / "saved.keras", folder / f"{name}.keras"] for name in UNTAKEN}
    words["unanswered"] = words["vae"]
    commands = {name: [*files, "--from", "keras", *ANSWERS.get(name, ())] for name, files in words.items()}
    models = tmp_path_factory.mktemp("models")
    return folder, import_saved(packages(backend), models, commands, KERAS_BACKEND=backend)


@pytest.mark.parametrize(("name", "kind", "labels"), [("vae", "vae", 0), ("gan", "gan", 0), ("labelled", "gan", 10)])
async def test_the_served_model_is_the_one_that_keras_saved(
    keras: tuple[Path, Imports], name: str, kind: str, labels: int
) -> None:
    folder, imports = keras
    assert imports.codes[name] == 0, imports.said
    info, differences = await served(imports.repository, name, folder / name / "expected.npz")
    assert (info.kind, info.labels) == (kind, labels)
    assert max(differences.values()) <= LIMIT, differences


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lambda", "lambda.keras: keras cannot load it without code of its own"),
        ("custom-layer", "custom-layer.keras: keras cannot load it without code of its own"),
        ("moments", "moments.keras: its output is [16], where a latent is [8]; a mean and a spread must be outputs"),
        ("unnamed", "unnamed.keras: outputs are dense, dense_1; their layers must call one mean or mu"),
    ],
)
def test_files_of_keras_that_do_not_say_all_are_refused(keras: tuple[Path, Imports], name: str, message: str) -> None:
    _, imports = keras
    assert imports.codes[name] == 1
    assert message in imports.said


def test_what_a_file_of_keras_does_not_say_is_asked(keras: tuple[Path, Imports]) -> None:
    _, imports = keras
    assert imports.codes["unanswered"] == 2
    asked = re.findall(r"^latentserve-import: question: (\w+): ", imports.said, re.MULTILINE)
    assert asked == ["prior", "likelihood"]
    assert "error: 2 questions are open; answer them with --set\n" in imports.said
