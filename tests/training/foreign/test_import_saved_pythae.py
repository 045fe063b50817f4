"""Models that pythae saved, each imported by one command and served: the answers are what pythae computes."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from training.saved_models import Imports, Touch, import_saved, served

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "pythae_saves.py"
LIBRARY = Path(sys.prefix) / "pythae"
NETWORKS = "pythae.models.nn.benchmarks.mnist:"
OPTIONS = {
    "vae": ["--set", "dataset=digits"],
    "own-networks": [
        *("--encoder-class", f"{NETWORKS}Encoder_Conv_VAE_MNIST"),
        *("--decoder-class", f"{NETWORKS}Decoder_Conv_AE_MNIST"),
    ],
}
LIMIT = 1e-4

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="pythae is not installed; `make test` installs it"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the models that pythae saved; pickles leave the file `ran` there where they are loaded."""
    folder = tmp_path_factory.mktemp("pythae")
    start = (
        f"import sys, runpy; sys.path.append({str(LIBRARY)!r}); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", start, folder], check=True, capture_output=True)
    for file in ("encoder.pkl", "decoder.pkl"):
        (folder / "own-networks" / "saved" / file).write_bytes(pickle.dumps(Touch(folder / "ran")))
    shutil.copytree(folder / "vae", folder / "code")
    torch.save({"model_state_dict": Touch(folder / "ran")}, folder / "code" / "saved" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def imports(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Imports:
    names = [path.parent.name for path in saved.glob("*/saved")]
    words = {name: [saved / name / "saved", "--from", "pythae", *OPTIONS.get(name, ())] for name in names}
    words["other-prior"] = [saved / "vamp" / "saved", "--from", "pythae", "--set", "prior.graph=none.onnx"]
    return import_saved(LIBRARY, tmp_path_factory.mktemp("models"), words)


@pytest.mark.parametrize(
    ("name", "kind", "prior"),
    [
        ("vae", "vae", "standard_normal"),
        ("vamp", "vae", "mixture"),
        ("vqvae", "vq", ""),
        ("wae", "autoencoder", "standard_normal"),
        ("own-networks", "vae", "standard_normal"),
    ],
)
async def test_the_served_model_is_the_one_that_pythae_saved(
    saved: Path, imports: Imports, name: str, kind: str, prior: str
) -> None:
    assert imports.codes[name] == 0, imports.said
    info, differences = await served(imports.repository, name, saved / name / "expected.npz")
    assert (info.kind, info.prior) == (kind, prior)
    assert max(differences.values()) <= LIMIT, differences


def test_settings_are_added_to_what_the_configuration_says(imports: Imports) -> None:
    manifest = json.loads((imports.repository / "vae" / "1" / "manifest.json").read_text())
    assert (manifest["provenance"]["family"], manifest["provenance"]["dataset"]) == ("pythae VAE", "digits")


def test_a_prior_that_is_told_is_in_the_place_of_the_models_own(imports: Imports) -> None:
    assert imports.codes["other-prior"] == 1
    assert "# told by --set\nprior: {graph: none.onnx}\n" in imports.said
    assert "error: prior: none.onnx: " in imports.said


def test_a_description_is_printed_alone_with_what_the_settings_say(saved: Path, tmp_path: Path) -> None:
    words = [saved / "vamp" / "saved", "--from", "pythae", "--describe-only", "--set", "likelihood=bernoulli"]
    described = import_saved(LIBRARY, tmp_path / "models", {"vamp": words})
    assert described.codes == {"vamp": 0}
    assert not (tmp_path / "models").exists()
    content = yaml.safe_load(described.printed)
    assert (content["kind"], content["prior"], content["likelihood"]) == (
        "vae",
        {"mixture": "mixture.npz"},
        "bernoulli",
    )
    assert (content["image_range"], content["image_shape"], "log_scale" in content) == ([0, 1], [1, 8, 8], False)
    for key, reason in {
        "image_shape": "input_dim",
        "prior": "the mixture of the posteriors of its pseudo-inputs",
        "likelihood": "told by --set",
    }.items():
        assert f"# {reason}\n{key}: " in described.printed


def test_the_prior_of_a_vamp_is_the_mixture_of_its_pseudo_inputs_posteriors(saved: Path, imports: Imports) -> None:
    mixture = load_file(imports.repository / "vamp" / "1" / "mixture.safetensors")
    with np.load(saved / "vamp" / "expected.npz") as expected:
        means, deviations = expected["means"], np.exp(expected["log_variances"] / 2)
    np.testing.assert_allclose(mixture["means"], means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mixture["factors"], deviations[:, :, None] * np.eye(means.shape[1]), rtol=1e-5)
    np.testing.assert_allclose(mixture["weights"], 1 / len(means))


def test_no_pickled_code_runs(saved: Path, imports: Imports) -> None:
    assert not (saved / "ran").exists()
    assert imports.codes["code"] == 1
    (refusal,) = imports.refusals("code/saved")
    assert f"{saved}/code/saved: pythae cannot load it: " in refusal
