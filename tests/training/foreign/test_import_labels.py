"""Importing conditional models: labels in whatever form a graph takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import Parse
from training.foreign_models import ENCODER, GAN, IMAGES, LATENTS, VAE, WEIGHTS, bring, run, write

from latentserve.v1 import bundle_pb2

Capture = pytest.CaptureFixture[str]

LABELS = np.array([3, 0, 2, 1, 3])
NAMES = ["cat", "dog", "fox", "owl"]
DECODER = {"file": "g.onnx", "label": "c"}
CGAN = {**GAN, "decoder": DECODER, "labels": NAMES, "image_range": [-1, 1]}
CVAE = {**VAE, "decoder": DECODER, "labels": 4, "likelihood": "bernoulli"}
LABELLED_ENCODER = (
    "e (float[N, 3, 2, 2] a, float[N, 4] c) => (float[N, 3] mu, float[N, 3] s) "
    "{ r = Flatten(a)\n q = MatMul(r, v)\n d = MatMul(c, lean)\n p = Add(q, d)\n mu, s = Split(p, halves) }"
)


def decoder(form: str, looked_up: str, drawn: str = "Tanh") -> str:
    """A graph of latents z and labels c that adds what is looked up, a row a label, to what Tanh reads."""
    return (
        f"g (float[N, 3] z, {form}) => (float[N, 3, 2, 2] x) {{ h = MatMul(z, w)\n e = {looked_up}\n "
        f"m = Add(h, e)\n y = {drawn}(m)\n x = Reshape(y, shape) }}"
    )


@pytest.mark.parametrize(
    ("form", "looked_up"),
    [
        ("int64[N] c", "Gather(table, c)"),
        ("int32[N] c", "Gather(table, c)"),
        ("int64[N, 1] c", "GatherND(table, c)"),
        ("float[N, 4] c", "MatMul(c, table)"),
    ],
)
def test_a_decoder_gets_labels_in_the_form_that_it_takes(tmp_path: Path, form: str, looked_up: str) -> None:
    write(tmp_path / "g.onnx", decoder(form, looked_up))
    assert bring(tmp_path, CGAN) == 0
    found = run(tmp_path, "decoder", LATENTS, LABELS)["image"]
    expected = np.tanh(LATENTS @ WEIGHTS["w"] + WEIGHTS["table"][LABELS])
    np.testing.assert_allclose(found.reshape(5, -1), (expected + 1) / 2, rtol=0, atol=1e-6)
    manifest = Parse((tmp_path / "models" / "m" / "1" / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert (manifest.labels.count, list(manifest.labels.names)) == (4, NAMES)


@pytest.mark.parametrize(("labels", "names"), [(4, []), ([7, 1, "x", 0], ["7", "1", "x", "0"])])
def test_labels_may_be_a_number_or_have_numbers_for_names(
    tmp_path: Path, labels: int | list[int | str], names: list[str]
) -> None:
    write(tmp_path / "g.onnx", decoder("int64[N] c", "Gather(table, c)"))
    assert bring(tmp_path, {**CGAN, "labels": labels}) == 0
    manifest = Parse((tmp_path / "models" / "m" / "1" / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert (manifest.labels.count, list(manifest.labels.names)) == (4, names)


@pytest.mark.parametrize("looks", [True, False])
def test_an_encoder_may_look_at_the_label_or_not(tmp_path: Path, looks: bool) -> None:
    write(tmp_path / "g.onnx", decoder("int64[N] c", "Gather(table, c)", "Sigmoid"))
    write(tmp_path / "e.onnx", LABELLED_ENCODER if looks else ENCODER)
    assert bring(tmp_path, {**CVAE, "encoder": {**VAE["encoder"], **({"label": "c"} if looks else {})}}) == 0
    posterior = run(tmp_path, "encoder", IMAGES, LABELS)
    expected = IMAGES.reshape(5, -1) @ WEIGHTS["v"] + looks * WEIGHTS["lean"][LABELS]
    np.testing.assert_allclose(posterior["mean"], expected[:, :3], rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], expected[:, 3:], rtol=0, atol=1e-5)
    logits = run(tmp_path, "decoder", LATENTS, LABELS)["logits"].reshape(5, -1)
    np.testing.assert_allclose(logits, LATENTS @ WEIGHTS["w"] + WEIGHTS["table"][LABELS], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"labels": None}, "decoder.label: a model with labels has one, others have none", 2),
        ({"decoder": {"file": "g.onnx"}}, "decoder.label: a model with labels has one, others have none", 2),
        ({"labels": 1}, "labels are 1; there must be 2 to 65,536", 2),
        ({"labels": ["a", "b", "a"]}, "labels are ['a', 'b', 'a']; each must have a name of its own", 2),
        ({"labels": 5}, "onnxruntime cannot run batches of 64", 1),
        ({"labels": 300}, "onnxruntime cannot run batches of 64", 1),
        (
            {"decoder": {"file": "g.onnx", "label": "d"}},
            "inputs are ['z', 'c']; there must be one, beside the label",
            1,
        ),
        ({"decoder": {"file": "g.onnx", "label": "z"}}, "input 'c' is int64; it must be float32", 1),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str, code: int
) -> None:
    write(tmp_path / "g.onnx", decoder("int64[N] c", "Gather(table, c)"))
    described = {key: value for key, value in {**CGAN, **change}.items() if value is not None}
    assert_refused(tmp_path, capsys, described, message, code)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("int64[1] c", "the batch axis of 'c' is fixed at 1"),
        ("float[N, 5] c", "'c' is float [batch, 5]; it must be int64 or int32 [batch], or float32 [batch, 4]"),
        ("float[N] c", "label input 'c' is float [batch]; it must be"),
        ("int64[N, M] c", "label input 'c' is int64 [batch, ?]; it must be"),
    ],
)
def test_a_label_in_a_form_that_is_not_known_is_refused(
    tmp_path: Path, capsys: Capture, form: str, message: str
) -> None:
    write(tmp_path / "g.onnx", decoder(form, "Gather(table, first)"))
    assert_refused(tmp_path, capsys, CGAN, message)


def test_an_encoder_of_a_model_without_labels_has_no_label(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", decoder("int64[N] c", "Gather(table, c)", "Sigmoid"))
    write(tmp_path / "e.onnx", LABELLED_ENCODER)
    described = {**VAE, "likelihood": "bernoulli", "encoder": {**VAE["encoder"], "label": "c"}}
    assert_refused(tmp_path, capsys, described, "encoder.label is for a model with labels", 2)
    assert_refused(tmp_path, capsys, CVAE, "encoder: inputs are ['a', 'c']; there must be one")


def assert_refused(folder: Path, capsys: Capture, description: dict[str, Any], message: str, code: int = 1) -> None:
    assert bring(folder, description) == code
    line = capsys.readouterr().err
    assert message in line
    assert line.startswith("latentserve-import: error: ")
    assert line.count("\n") == 1
    assert not list(folder.glob("models/m/*"))
