"""Importing ONNX files that nobody here made: what is adapted, and what is said of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.json_format import Parse
from training.foreign_models import (
    ENCODER,
    GAN,
    IMAGES,
    LATENTS,
    LINEAR,
    SIGMOID,
    TANH,
    VAE,
    WEIGHTS,
    bring,
    changed,
    flat,
    run,
    write,
)

from latentserve.onnx.graph_rule import check_graph
from latentserve.v1 import bundle_pb2

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("text", [TANH, flat(TANH), TANH.replace("N", "batch_size").replace("x", "image")])
def test_images_from_minus_one_to_one_come_out_from_zero_to_one(tmp_path: Path, text: str) -> None:
    write(tmp_path / "g.onnx", text)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], "image_shape": [3, 2, 2]}) == 0
    found = run(tmp_path, "decoder", LATENTS)
    expected = (np.tanh(LATENTS @ WEIGHTS["w"]).reshape(-1, 3, 2, 2) + 1) / 2
    np.testing.assert_allclose(found["image"], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found["image_uint8"], np.rint(255 * found["image"]).astype(np.uint8))
    assert set(found) == {"image", "image_uint8"}


def test_a_generator_of_an_older_operator_set_and_of_square_latents_is_taken(tmp_path: Path) -> None:
    square = TANH.replace("float[N, 3] z", "float[N, 3, 1, 1] z").replace("MatMul(z,", "MatMul(q,")
    write(tmp_path / "g.onnx", square.replace("{ h", "{ q = Flatten(z)\n h"), opset=13)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)


def test_weights_in_a_file_beside_the_graph_are_taken_in(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "g.onnx", TANH)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert not list((tmp_path / "models" / "m" / "1").glob("*.bin"))
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)
    (tmp_path / "weights.bin").unlink()
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 1
    assert "weights.bin" in capsys.readouterr().err


def test_the_digest_is_of_all_files_that_a_model_is_made_of(tmp_path: Path) -> None:
    """As `cat g.onnx a.bin b.bin | sha256sum` has it: another training of the same graph changes a.bin alone."""
    path = write(tmp_path / "g.onnx", TANH)
    model = onnx.load(path)
    for tensor, name in zip(model.graph.initializer, ("b.bin", "a.bin"), strict=True):
        onnx.external_data_helper.set_external_data(tensor, location=name)
    onnx.save(model, path)
    for version in (1, 2):
        assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
        manifest = json.loads((tmp_path / "models" / "m" / str(version) / "manifest.json").read_text())
        found = json.loads(manifest["provenance"]["config_json"])["decoder"]["file_sha256"]
        content = b"".join((tmp_path / name).read_bytes() for name in ("g.onnx", "a.bin", "b.bin"))
        assert found == hashlib.sha256(content).hexdigest()
        (weights,) = [name for name in ("a.bin", "b.bin") if (tmp_path / name).stat().st_size == WEIGHTS["w"].nbytes]
        (tmp_path / weights).write_bytes((WEIGHTS["w"] / 2).tobytes())


def test_dropout_that_drops_nothing_is_served(tmp_path: Path) -> None:
    """As a generator is exported with a flag that says what is so anyway."""
    write(tmp_path / "g.onnx", changed(TANH, "y = Tanh(h)", "d = Dropout(h, half, never)\n y = Tanh(d)"))
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    for graph in (tmp_path / "models" / "m" / "1").glob("*.onnx"):
        check_graph(graph.read_bytes())


def test_logits_are_taken_from_behind_the_sigmoid(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", SIGMOID)
    write(tmp_path / "e.onnx", ENCODER)
    assert bring(tmp_path, {**VAE, "likelihood": "bernoulli"}) == 0
    found = run(tmp_path, "decoder", 9 * LATENTS)
    logits = 9 * LATENTS @ WEIGHTS["w"]
    np.testing.assert_allclose(found["logits"].reshape(5, -1), logits, rtol=1e-5, atol=1e-5)
    posterior = run(tmp_path, "encoder", IMAGES)
    expected = IMAGES.reshape(5, -1) @ WEIGHTS["v"]
    np.testing.assert_allclose(posterior["mean"], expected[:, :3], rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], expected[:, 3:], rtol=0, atol=1e-5)


def test_a_decoder_of_logits_alone_gets_its_sigmoid(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", LINEAR)
    write(tmp_path / "e.onnx", ENCODER)
    assert bring(tmp_path, {**VAE, "likelihood": "bernoulli", "decoder": {"file": "g.onnx", "logits": "x"}}) == 0
    found = run(tmp_path, "decoder", LATENTS)
    np.testing.assert_allclose(found["image"], 1 / (1 + np.exp(-found["logits"])), rtol=0, atol=1e-6)


@pytest.mark.parametrize("text", [LINEAR, SIGMOID])
def test_a_saturated_sigmoid_stays_within_the_range(tmp_path: Path, text: str) -> None:
    """onnxruntime's Sigmoid of these logits is 1 + 2^-23."""
    write(tmp_path / "g.onnx", changed(text, "h = MatMul(z, w)", "d = MatMul(z, zeros)\n h = Add(d, saturated)"))
    write(tmp_path / "e.onnx", ENCODER)
    decoder = {"file": "g.onnx"} | ({"logits": "x"} if text is LINEAR else {})
    assert bring(tmp_path, {**VAE, "likelihood": "bernoulli", "decoder": decoder}) == 0
    found = run(tmp_path, "decoder", LATENTS)
    assert (found["image"] == 1).all()
    assert (found["image_uint8"] == 255).all()
    np.testing.assert_array_equal(found["logits"].reshape(5, -1), WEIGHTS["saturated"][None].repeat(5, axis=0))


def test_a_deviation_and_a_scale_follow_the_range(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", ENCODER.replace("mu, s = Split", "mu, t = Split").replace(" }", "\n s = Exp(t) }"))
    encoder = {"file": "e.onnx", "mean": "mu", "standard_deviation": "s"}
    description = {**VAE, "encoder": encoder, "likelihood": "gaussian", "log_scale": 0.5, "image_range": [-1, 1]}
    assert bring(tmp_path, description) == 0
    posterior = run(tmp_path, "encoder", IMAGES)
    expected = (2 * IMAGES - 1).reshape(5, -1) @ WEIGHTS["v"]
    np.testing.assert_allclose(posterior["mean"], expected[:, :3], rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], 2 * expected[:, 3:], rtol=0, atol=1e-5)
    log_scale = run(tmp_path, "decoder", LATENTS)["log_scale"]
    np.testing.assert_allclose(log_scale, np.full((5, 3, 2, 2), 0.5 - np.log(2)), rtol=0, atol=1e-6)


def test_a_decoder_s_own_scale_is_taken(tmp_path: Path) -> None:
    two = TANH.replace("[N, 3, 2, 2] x)", "[N, 3, 2, 2] x, float[N, 3, 2, 2] scale)")
    write(tmp_path / "g.onnx", two.replace(" }", "\n k = Neg(h)\n scale = Reshape(k, shape) }"))
    write(tmp_path / "e.onnx", ENCODER)
    decoder = {"file": "g.onnx", "image": "x", "log_scale": "scale"}
    description = {**VAE, "decoder": decoder, "likelihood": "discretized_logistic", "image_range": [-1, 1]}
    assert bring(tmp_path, description) == 0
    log_scale = run(tmp_path, "decoder", LATENTS)["log_scale"]
    np.testing.assert_allclose(log_scale.reshape(5, -1), -LATENTS @ WEIGHTS["w"] - np.log(2), rtol=0, atol=1e-5)


def test_the_manifest_tells_where_it_came_from(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], "family": "dcgan", "dataset": "cats"}) == 0
    bundle = tmp_path / "models" / "m" / "1"
    manifest = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert (manifest.kind, manifest.latent.dim, manifest.image.channels) == (bundle_pb2.MODEL_KIND_GAN, 3, 3)
    assert (manifest.provenance.family, manifest.provenance.dataset) == ("dcgan", "cats")
    assert len(json.loads(manifest.provenance.config_json)["decoder"]["file_sha256"]) == 64
    card = (bundle / "CARD.md").read_text()
    assert "Trained on `cats`." in card
    assert "Imported from ONNX files" in card


def test_rows_whose_last_bits_depend_on_their_batch_are_told_of(tmp_path: Path, capsys: Capture) -> None:
    """Every row of a batch adds a ten-millionth to all of them, which is within what other sums may do."""
    counting = (
        "s = Shape<start = 0, end = 1>(z)\n n = Cast<to = 1>(s)\n m = Mul(n, share)\n t = Tanh(h)\n y = Add(t, m)"
    )
    for name, graph in (("g.onnx", TANH), ("c.onnx", changed(TANH, "y = Tanh(h)", counting))):
        write(tmp_path / name, graph)
        assert bring(tmp_path, {**GAN, "image_range": [-1, 1], "decoder": {"file": name}}) == 0
    said = capsys.readouterr().err
    assert said == (
        "latentserve-import: warning: decoder.onnx: the last bits of a row depend on its batch ('image' in a batch of "
        "3); a server promises none\n"
    )
    told = "The last bits of a row depend on the other rows of its batch in `decoder.onnx`."
    for version, dependent in ((1, False), (2, True)):
        bundle = tmp_path / "models" / "m" / str(version)
        (graph,) = Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest()).graphs
        assert graph.batch_dependent == dependent
        assert (told in (bundle / "CARD.md").read_text()) == dependent


def reading_of(folder: Path, **description: Any) -> bundle_pb2.PictureReading:
    """What the manifest of an imported model says of picture files."""
    write(folder / "g.onnx", TANH)
    assert bring(folder, {**GAN, "image_range": [-1, 1], **description}) == 0
    manifest = (folder / "models" / "m" / "1" / "manifest.json").read_text()
    return Parse(manifest, bundle_pb2.Manifest()).image.reading


def test_picture_files_are_read_as_the_description_says(tmp_path: Path) -> None:
    stated = {"upright": True, "background": [255, 128, 0], "grey": "rec709", "fit": "crop", "filter": "bilinear"}
    assert reading_of(tmp_path, reading=stated) == bundle_pb2.PictureReading(
        upright=True,
        background=bundle_pb2.Colour(red=255, green=128),
        grey=bundle_pb2.GREY_WEIGHTS_REC709,
        fit=bundle_pb2.FIT_CROP,
        filter=bundle_pb2.RESIZE_FILTER_BILINEAR,
    )


def test_a_description_without_a_reading_gets_the_plain_one(tmp_path: Path) -> None:
    assert reading_of(tmp_path) == bundle_pb2.PictureReading(
        grey=bundle_pb2.GREY_WEIGHTS_REC601, fit=bundle_pb2.FIT_STRETCH, filter=bundle_pb2.RESIZE_FILTER_BICUBIC
    )


def test_an_empty_section_of_a_description_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], "reading": None, "encoder": None}) == 0
