"""Importing ONNX files without a description: what is guessed, what is asked, and that a description says the same."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn
from training.foreign_models import (
    CODED,
    CODER,
    ENCODER,
    LINEAR,
    POINTS,
    SIGMOID,
    TANH,
    changed,
    conditional_decoder,
    flat,
    write,
)

from latentserve_training import commands

Capture = pytest.CaptureFixture[str]
BERNOULLI = ["likelihood=bernoulli", "prior=standard_normal"]
GAUSSIAN = ["likelihood=gaussian", "log_scale=0", "prior=standard_normal"]
GAN = ["kind=gan", "prior=standard_normal"]
NAMED = changed(changed(ENCODER, "float[N, 3] s)", "float[N, 3] z_log_var)"), "mu, s =", "mu, z_log_var =")
EMBEDDED = POINTS.replace("mu", "embedded")
MOMENTS = changed(changed(ENCODER, "float[N, 3] mu, float[N, 3] s", "float[N, 6] moments"), "p = M", "moments = M")
MOMENTS = changed(MOMENTS, "\n mu, s = Split(p, halves)", "")
PSI = changed(
    changed(TANH, "float[N, 3] z", "float[N, 3] z, float psi"), "{ h = MatMul(z", "{ s = Mul(z, psi)\n h = MatMul(s"
)
TWO = changed(
    changed(TANH, "float[N, 3] z", "float[N, 3] z, float[N, 3] c"), "{ h = MatMul(z", "{ s = Add(z, c)\n h = MatMul(s"
)
FLAGGED = changed(
    changed(TANH, "float[N, 3] z", "float[N, 3] z, int64 k, bool f"),
    "y = Tanh(h)",
    "i = Cast<to = 1>(k)\n j = Cast<to = 1>(f)\n s = Sum(h, i, j)\n y = Tanh(s)",
)
LAST = changed(changed(TANH, "[N, 3, 2, 2] x", "[N, 2, 2, 3] x"), "Reshape(y, shape)", "Reshape(y, last)")
LAST_ENCODER = changed(NAMED, "[N, 3, 2, 2] a", "[N, 2, 2, 3] a")
LABELLED = conditional_decoder("int64[N] c", "Gather(table, c)")


def files(folder: Path, decoder: str, encoder: str | None = None) -> list[str]:
    """The paths of the graphs, written."""
    paths = [write(folder / "g.onnx", decoder)] + ([write(folder / "e.onnx", encoder)] if encoder else [])
    return [str(path) for path in paths]


def told(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def bring(folder: Path, words: list[str]) -> int:
    return commands.import_model([*words, "--repository", str(folder / "models"), "--name", "m"])


def described(capsys: Capture, words: list[str], code: int = 0) -> dict[str, Any]:
    """The description that is printed alone."""
    capsys.readouterr()
    assert commands.import_model([*words, "--describe-only"]) == code
    content = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def asked(capsys: Capture) -> dict[str, str]:
    """The questions on standard error, by their options."""
    found = re.findall(r"^latentserve-import: question: ([\w.]+): (.+)$", capsys.readouterr().err, re.MULTILINE)
    return dict(found)


def manifest(folder: Path, version: int) -> dict[str, Any]:
    """What a bundle says of itself, with its files' digests and without the time at which it was made."""
    content: dict[str, Any] = json.loads((folder / "models" / "m" / str(version) / "manifest.json").read_text())
    for key in ("createdAt", "created_at"):
        content["provenance"].pop(key, None)
    return content


@dataclass(frozen=True)
class Files:
    decoder: str
    encoder: str | None
    settings: list[str]
    guessed: dict[str, Any]
    """Options of the description, dotted, that nobody told."""


KNOWN = {
    "a VAE": Files(
        SIGMOID,
        NAMED,
        BERNOULLI,
        {
            "kind": "vae",
            "latent_dim": 3,
            "image_range": [0, 1],
            "encoder.mean": "mu",
            "encoder.log_variance": "z_log_var",
        },
    ),
    "a GAN": Files(TANH, None, GAN, {"latent_dim": 3, "image_range": [-1, 1], "layout": "nchw", "decoder.latent": "z"}),
    "channels last": Files(LAST, LAST_ENCODER, GAUSSIAN, {"layout": "nhwc", "image_range": [-1, 1], "kind": "vae"}),
    "moments": Files(SIGMOID, MOMENTS, BERNOULLI, {"kind": "vae", "encoder.moments": {"tensor": "moments", "axis": 1}}),
    "a setting beside the latent": Files(PSI, None, [*GAN, "decoder.inputs.psi=0.7"], {"decoder.latent": "z"}),
    "labels": Files(LABELLED, None, GAN, {"labels": 4, "decoder.label": "c", "decoder.latent": "z"}),
    "an autoencoder": Files(TANH, EMBEDDED, [], {"kind": "autoencoder", "prior": "none", "encoder.latent": "embedded"}),
    "codes": Files(CODED, CODER, [], {"kind": "vq", "codes": 4, "latent_shape": [2, 3], "encoder.codes": "c"}),
    "flat rows beside an encoder of images": Files(flat(SIGMOID), NAMED, BERNOULLI, {"image_shape": [3, 2, 2]}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_description_that_is_printed_imports_as_the_graphs_do(tmp_path: Path, capsys: Capture, name: str) -> None:
    case = KNOWN[name]
    words = [*files(tmp_path, case.decoder, case.encoder), *told(case.settings)]
    content = described(capsys, words)
    for key, value in case.guessed.items():
        section, _, option = key.rpartition(".")
        assert (content[section] if section else content)[option] == value
    assert bring(tmp_path, words) == 0
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    assert bring(tmp_path, [str(tmp_path / "model.yaml")]) == 0
    assert manifest(tmp_path, 1) == manifest(tmp_path, 2)


def test_what_is_guessed_has_its_reason_and_goes_to_standard_error_beside_the_folder(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path, TANH, EMBEDDED)
    assert commands.import_model(["g.onnx", "e.onnx", "--repository", "models", "--name", "m"]) == 0
    out, err = capsys.readouterr()
    assert out == "models/m/1\n"
    assert re.sub(r"-?[01]\.\d+\b", "#", err) == DESCRIBED
    assert commands.import_model(["g.onnx", "e.onnx", "--describe-only"]) == 0
    assert capsys.readouterr() == (err, "")


DESCRIBED = """\
# the encoder gives 'embedded' of the latent's size, and no spread
kind: autoencoder
# the decoder's input 'z' is float32 [N, 3]
latent_dim: 3
# nothing says that latents can be drawn, so a server does not sample; standard_normal is the other way
prior: none
# Tanh gives 'x'; of 4 images, pixels run from # to #
image_range: [-1, 1]
# 'x' is [batch, 3, 2, 2], 3 channels first
layout: nchw
decoder:
  file: g.onnx
  # the only output
  image: x
  # the only input
  latent: z
encoder:
  file: e.onnx
  # the only output
  latent: embedded
  # the only input
  image: a
"""

OPEN: dict[str, tuple[str, str | None, list[str], set[str]]] = {
    "a decoder alone": (TANH, None, [], {"kind", "prior"}),
    "a decoder of a VAE without its encoder": (TANH, None, ["kind=vae"], {"encoder.file", "prior", "likelihood"}),
    "no last activation": (LINEAR, None, GAN, {"image_range"}),
    "pixels beyond a range that is told": (LINEAR, None, [*GAN, "image_range=[0,1]"], {"clip"}),
    "a setting without a value": (PSI, None, GAN, {"decoder.inputs.psi"}),
    "a whole number and a flag without values": (FLAGGED, None, GAN, {"decoder.inputs.k", "decoder.inputs.f"}),
    "codes beside numbers": (
        changed(
            changed(TANH, "float[N, 3] z", "float[N, 3] z, int64[N, 2] k"), "{ h", "{ i = Cast<to = 1>(k)\n h"
        ).replace("y = Tanh(h)", "s = ReduceSum(i)\n t = Add(h, s)\n y = Tanh(t)"),
        None,
        GAN,
        {"decoder.latent"},
    ),
    "two rows of numbers": (TWO, None, GAN, {"decoder.latent"}),
    "the other row of numbers": (TWO, None, [*GAN, "decoder.latent=z"], {"decoder.inputs.c"}),
    "flat rows": (flat(TANH), None, GAN, {"image_shape"}),
    "flat rows of several channels": (flat(TANH), None, [*GAN, "image_shape=[3,2,2]"], {"layout"}),
    "sides that may all be channels": (
        changed(changed(TANH, "[N, 3, 2, 2] x", "[N, 2, 3, 2] x"), "(y, shape)", "(y, two)"),
        None,
        GAN,
        {"layout"},
    ),
    "labels of an unknown number": (
        conditional_decoder("int64[N] c", "Cast<to = 1>(d)").replace("{ h", "{ d = Unsqueeze(c, one1)\n h"),
        None,
        GAN,
        {"labels"},
    ),
    "outputs without telling names": (ENCODER, None, GAN, {"decoder.image"}),
    "a spread without a name": (SIGMOID, ENCODER, BERNOULLI, {"encoder.log_variance"}),
    "a posterior without names": (
        SIGMOID,
        changed(changed(ENCODER, "float[N, 3] mu", "float[N, 3] m"), "mu, s =", "m, s ="),
        BERNOULLI,
        {"encoder.mean", "encoder.log_variance"},
    ),
    "a spread that may be two things": (
        SIGMOID,
        changed(changed(ENCODER, "float[N, 3] s)", "float[N, 3] sigma)"), "mu, s =", "mu, sigma ="),
        BERNOULLI,
        {"encoder.log_variance"},
    ),
    "one tensor of twice the size": (SIGMOID, MOMENTS.replace("moments", "h"), BERNOULLI, {"encoder.moments"}),
    "a mean alone": (SIGMOID, EMBEDDED.replace("embedded", "mean"), ["prior=standard_normal"], {"kind"}),
    "a VAE's likelihood and prior": (SIGMOID, NAMED, [], {"likelihood", "prior"}),
    "a scale": (TANH, NAMED, ["likelihood=gaussian", "prior=standard_normal"], {"log_scale"}),
    "logits": (TANH, NAMED, BERNOULLI, {"decoder.logits"}),
    "a codebook of an unknown size": (
        changed(
            changed(CODED, "e = Gather(table, f)", "e = Cast<to = 1>(f)"),
            "h = ReduceMean<keepdims = 0>(e, one1)",
            "h = Concat<axis = 1>(e, e)",
        ),
        CODER,
        [],
        {"codes"},
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_what_the_graphs_do_not_say_is_asked_at_once(tmp_path: Path, capsys: Capture, name: str) -> None:
    decoder, encoder, settings, keys = OPEN[name]
    words = [*files(tmp_path, decoder, encoder), *told(settings)]
    assert bring(tmp_path, words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert set(re.findall(r"^latentserve-import: question: ([\w.]+): ", err, re.MULTILINE)) == keys
    count = "1 question is open; answer it" if len(keys) == 1 else f"{len(keys)} questions are open; answer them"
    assert err.splitlines()[-1] == (
        f"latentserve-import: error: {count} with --set, or in a description, which --describe-only begins"
    )
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", OPEN)
def test_an_open_option_is_in_the_description_and_refused_until_it_is_answered(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    decoder, encoder, settings, keys = OPEN[name]
    content = described(capsys, [*files(tmp_path, decoder, encoder), *told(settings)], code=2)
    for key in keys:
        found: Any = content
        for part in key.split("."):
            found = found[part]
        assert found == "?"
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    assert bring(tmp_path, [str(tmp_path / "model.yaml")]) in (1, 2)
    assert not list(tmp_path.glob("models/m/*"))
    assert capsys.readouterr().err.count("\n") == 1


ANSWERED = [
    "a decoder alone",
    "no last activation",
    "a setting without a value",
    "a whole number and a flag without values",
    "two rows of numbers",
    "flat rows",
]
ANSWERED += ["a posterior without names", "one tensor of twice the size", "a VAE's likelihood and prior", "a scale"]


@pytest.mark.parametrize("name", ANSWERED)
def test_the_settings_that_a_question_names_answer_it(tmp_path: Path, capsys: Capture, name: str) -> None:
    decoder, encoder, settings, _ = OPEN[name]
    words = [*files(tmp_path, decoder, encoder), *told(settings)]
    for _ in range(4):
        code = bring(tmp_path, words)
        questions = asked(capsys)
        if code == 0:
            break
        assert questions
        for sentence in questions.values():
            words += shlex.split(re.findall(r"`([^`]+)`", sentence)[1 if "how wide" in sentence else 0])
    assert (tmp_path / "models" / "m" / "1").is_dir()


class Drawing(nn.Module):
    """Latents [batch, 16] to images [batch, 1, 28, 28], as the documentation's generator draws them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 8 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(1, (8, 7, 7)),
            nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.layers(latent)
        return image


class Reading(nn.Module):
    """Images [batch, 1, 28, 28] to the mean and the log-variance of latents, [batch, 16] each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 32))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.layers(image).chunk(2, dim=1)
        return mean, log_variance


class SpatialDrawing(nn.Module):
    """Latents [batch, 4, 4, 4] to images [batch, 16, 16, 3] from -1 to 1, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.Upsample(scale_factor=4), nn.Conv2d(16, 3, 1))

    def forward(self, latent: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layers(psi * latent)).permute(0, 2, 3, 1)


class SpatialReading(nn.Module):
    """Images [batch, 3, 16, 16] to moments [batch, 8, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Conv2d(3, 8, 4, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.layers(image)
        return moments


def exported(path: Path, module: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str]) -> str:
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=tuple({0: batch} if value.ndim else {} for value in inputs.values()),
        external_data=False,
        verbose=False,
    )
    return str(path)


@pytest.mark.filterwarnings("ignore::FutureWarning:torch", "ignore::FutureWarning:copyreg")
def test_pairs_that_pytorch_exports_are_described(tmp_path: Path, capsys: Capture) -> None:
    torch.manual_seed(0)
    words = [
        exported(tmp_path / "g.onnx", Drawing(), {"latent": torch.randn(2, 16)}, ["image"]),
        exported(tmp_path / "e.onnx", Reading(), {"image": torch.rand(2, 1, 28, 28)}, ["mean", "log_variance"]),
        *told(BERNOULLI),
    ]
    content = described(capsys, words)
    assert content == {
        "kind": "vae",
        "latent_dim": 16,
        "prior": "standard_normal",
        "image_range": [0, 1],
        "layout": "nchw",
        "likelihood": "bernoulli",
        "decoder": {"file": words[0], "latent": "latent", "image": "image"},
        "encoder": {"file": words[1], "image": "image", "mean": "mean", "log_variance": "log_variance"},
    }
    spatial = {"latent": torch.randn(2, 4, 4, 4), "psi": torch.ones(())}
    words = [
        exported(tmp_path / "s.onnx", SpatialDrawing(), spatial, ["pixels"]),
        exported(tmp_path / "t.onnx", SpatialReading(), {"image": torch.rand(2, 3, 16, 16)}, ["moments"]),
        *told([*GAUSSIAN, "decoder.inputs.psi=0.75"]),
    ]
    content = described(capsys, words)
    assert content == {
        "kind": "vae",
        "latent_shape": [4, 4, 4],
        "prior": "standard_normal",
        "image_range": [-1, 1],
        "likelihood": "gaussian",
        "log_scale": 0,
        "decoder": {"file": words[0], "latent": "latent", "image": "pixels", "inputs": {"psi": 0.75}},
        "encoder": {"file": words[1], "image": "image", "moments": {"tensor": "moments", "axis": 1}},
    }
    assert bring(tmp_path, words) == 0
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    assert bring(tmp_path, [str(tmp_path / "model.yaml")]) == 0
    assert manifest(tmp_path, 1) == manifest(tmp_path, 2)


RANGES: list[tuple[str, list[float] | str]] = [
    ("y = Sigmoid(h)", [0, 1]),
    ("t = Tanh(h)\n u = Add(t, one)\n y = Mul(u, half)", [0, 1]),
    ("t = Tanh(h)\n u = Sub(one, t)\n y = Div(u, twice)", [0, 1]),
    ("t = Sigmoid(h)\n y = Mul(most, t)", [0, 255]),
    ("t = Sigmoid(h)\n y = Sub(t, half)", [-0.5, 0.5]),
    ("y = Clip(h, nought, one)", [0, 1]),
    ("y = Clip(h, nought)", "?"),
    ("y = Clip(h, nought, twice)", "?"),
    ("y = Relu(h)", "?"),
    ("t = Abs(h)\n y = Tanh(t)", "?"),
    ("t = Sigmoid(h)\n y = Mul(t, h)", "?"),
    ("t = Tanh(h)\n y = Div(one, t)", "?"),
]
"""Nodes in the place of the generator's Tanh, and the range that they keep pixels in, if it is one of images."""


@pytest.mark.parametrize(("nodes", "expected"), RANGES)
def test_the_range_is_that_of_the_last_activation(
    tmp_path: Path, capsys: Capture, nodes: str, expected: list[float] | str
) -> None:
    path = write(tmp_path / "g.onnx", changed(TANH, "y = Tanh(h)", nodes))
    model = onnx.load(path)
    numbers = {"one": 1, "twice": 2}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(x, np.float32), name) for name, x in numbers.items()
    )
    onnx.save(model, path)
    found = described(capsys, [str(path), *told(GAN)], code=2 if expected == "?" else 0)
    assert found["image_range"] == expected


def test_bytes_are_from_0_to_255(tmp_path: Path, capsys: Capture) -> None:
    text = changed(TANH, "float[N, 3, 2, 2] x", "uint8[N, 3, 2, 2] x").replace(
        "y = Tanh(h)", "s = Sigmoid(h)\n m = Mul(s, most)\n y = Cast<to = 2>(m)"
    )
    content = described(capsys, [*files(tmp_path, text), *told(GAN)])
    assert content["image_range"] == [0, 255]


def test_what_the_file_says_of_its_family_and_data_is_taken(tmp_path: Path, capsys: Capture) -> None:
    (path,) = files(tmp_path, TANH)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"family": "dcgan: small", "dataset": "1", "author": "n"})
    onnx.save(model, path)
    content = described(capsys, [path, *told(GAN)])
    assert (content["family"], content["dataset"]) == ("dcgan: small", "1")
    assert "author" not in content


@pytest.mark.parametrize("name", ["168", "Identity:0", "input.1", "no", "it's", "é"])
def test_names_are_told_as_shells_and_yaml_read_them(tmp_path: Path, capsys: Capture, name: str) -> None:
    """As tracing exporters leave them."""
    (path,) = files(tmp_path, PSI)
    model = onnx.load(path)
    names = {"z": name, "psi": f"{name}2", "x": f"{name}3"}
    for node in model.graph.node:
        node.input[:] = [names.get(one, one) for one in node.input]
        node.output[:] = [names.get(one, one) for one in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    onnx.save(model, path)
    words = [path, *told(GAN)]
    assert bring(tmp_path, words) == 2
    (line,) = re.findall(r"question: .*? take\? `(.+?)`, with", capsys.readouterr().err)
    words += shlex.split(line.replace("0.0", "0.7"))
    content = described(capsys, words)
    assert content["decoder"]["latent"] == name
    assert content["decoder"]["inputs"] == {f"{name}2": 0.7}
    assert bring(tmp_path, words) == 0


def test_a_file_that_is_no_onnx_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "g.onnx").write_bytes(b"not a graph")
    assert bring(tmp_path, [str(tmp_path / "g.onnx")]) == 1
    assert "not ONNX that can be used" in capsys.readouterr().err
    assert bring(tmp_path, [str(tmp_path / "absent.onnx")]) == 1
    said = capsys.readouterr().err
    assert said == f"latentserve-import: error: decoder: {tmp_path}/absent.onnx: No such file or directory\n"


IMPOSSIBLE = ["latent_dim=-3", "latent_dim=99999999999", "latent_shape=[]", "latent_shape=[0, 3]", "image_shape=[]"]
IMPOSSIBLE += ["image_shape=[0, 1, 2]", "image_range=[1]", "latent_scale=0", "codes=0", "labels=0", "encoder.mean=m"]


@pytest.mark.parametrize("setting", IMPOSSIBLE)
def test_settings_that_cannot_be_are_wrong_usage(tmp_path: Path, capsys: Capture, setting: str) -> None:
    open_sides = changed(changed(TANH, "float[N, 3] z", "float[N, M] z"), "[N, 3, 2, 2] x", "[N, C, H, W] x")
    for text in (open_sides, flat(TANH), LABELLED):
        assert commands.import_model([*files(tmp_path, text), *told([*GAN, setting]), "--describe-only"]) == 2
        assert all(line.startswith("latentserve-import: ") for line in capsys.readouterr().err.splitlines())
