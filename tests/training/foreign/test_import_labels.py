"""Importing conditional models: labels in whatever form a graph takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from google.protobuf.json_format import Parse
from training.foreign_models import (
    ENCODER,
    GAN,
    IMAGES,
    LATENTS,
    VAE,
    WEIGHTS,
    bring,
    conditional_decoder,
    refusal,
    run,
    write,
)

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
    write(tmp_path / "g.onnx", conditional_decoder(form, looked_up))
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
    write(tmp_path / "g.onnx", conditional_decoder("int64[N] c", "Gather(table, c)"))
    assert bring(tmp_path, {**CGAN, "labels": labels}) == 0
    manifest = Parse((tmp_path / "models" / "m" / "1" / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert (manifest.labels.count, list(manifest.labels.names)) == (4, names)


@pytest.mark.parametrize("looks", [True, False])
def test_an_encoder_may_look_at_the_label_or_not(tmp_path: Path, looks: bool) -> None:
    write(tmp_path / "g.onnx", conditional_decoder("int64[N] c", "Gather(table, c)", "Sigmoid"))
    write(tmp_path / "e.onnx", LABELLED_ENCODER if looks else ENCODER)
    assert bring(tmp_path, {**CVAE, "encoder": {**VAE["encoder"], **({"label": "c"} if looks else {})}}) == 0
    posterior = run(tmp_path, "encoder", IMAGES, LABELS)
    expected = IMAGES.reshape(5, -1) @ WEIGHTS["v"] + looks * WEIGHTS["lean"][LABELS]
    np.testing.assert_allclose(posterior["mean"], expected[:, :3], rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], expected[:, 3:], rtol=0, atol=1e-5)
    logits = run(tmp_path, "decoder", LATENTS, LABELS)["logits"].reshape(5, -1)
    np.testing.assert_allclose(logits, LATENTS @ WEIGHTS["w"] + WEIGHTS["table"][LABELS], rtol=0, atol=1e-5)


def test_an_encoder_of_a_model_without_labels_has_no_label(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", conditional_decoder("int64[N] c", "Gather(table, c)", "Sigmoid"))
    write(tmp_path / "e.onnx", LABELLED_ENCODER)
    assert refusal(tmp_path, capsys, CVAE) == (
        1,
        "encoder: inputs are ['a', 'c']; there must be one; name it in encoder.image, and give others a value: "
        "`inputs: {c: 0.0}`",
    )
