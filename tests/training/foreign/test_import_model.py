"""Importing ONNX files that nobody here made: what is adapted, and what is refused with its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
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
    run,
    write,
)

from latentserve.onnx.graph_rule import check_graph
from latentserve.v1 import bundle_pb2
from latentserve_training import commands

Capture = pytest.CaptureFixture[str]


def flat(text: str) -> str:
    """The graph without its last reshape: images as flat rows."""
    return text.replace("float[N, 3, 2, 2] x", "float[N, 12] x").replace("x = Reshape(y, shape)", "x = Identity(y)")


@pytest.mark.parametrize("text", [TANH, flat(TANH), TANH.replace("N", "batch_size").replace("x", "image")])
def test_images_from_minus_one_to_one_come_out_from_zero_to_one(tmp_path: Path, text: str) -> None:
    write(tmp_path / "g.onnx", text)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], "image_shape": [3, 2, 2]}) == 0
    found = run(tmp_path, "decoder", LATENTS)
    expected = (np.tanh(LATENTS @ WEIGHTS["w"]).reshape(-1, 3, 2, 2) + 1) / 2
    np.testing.assert_allclose(found["image"], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found["image_uint8"], np.rint(255 * found["image"]).astype(np.uint8))
    assert set(found) == {"image", "image_uint8"}


def test_a_generator_of_an_older_operator_set_and_of_square_latents_is_brought_up(tmp_path: Path) -> None:
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


def test_a_decoder_that_is_only_a_file_name_is_refused(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "decoder": "g.onnx"}) == 2
    assert "model.yaml: decoder is 'g.onnx'; it must hold options of its own" in capsys.readouterr().err


def test_a_graph_that_loops_is_refused(tmp_path: Path, capsys: Capture) -> None:
    body = "body (int64 i, bool go, float[N, 12] u) => (bool on, float[N, 12] v) { on = Identity(go)\n v = Tanh(u) }"
    loop = f"y = Loop<body = {body}>(turns, always, h)"
    write(tmp_path / "g.onnx", changed(TANH, "y = Tanh(h)", loop))
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 1
    assert "decoder: the graph's operator 'Loop' at 'y' " in capsys.readouterr().err


def test_a_graph_that_maps_a_sequence_is_refused(tmp_path: Path, capsys: Capture) -> None:
    body = "body (float[N, 12] u) => (float[N, 12] v) { v = Tanh(u) }"
    mapped = f"q = SequenceConstruct(h)\n m = SequenceMap<body = {body}>(q)\n y = SequenceAt(m, zero)"
    write(tmp_path / "g.onnx", changed(TANH, "y = Tanh(h)", mapped))
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 1
    assert "decoder: the graph's operator 'SequenceMap' at 'm' " in capsys.readouterr().err


def test_dropout_that_drops_nothing_is_served_and_other_dropout_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """As a generator is exported in train(), or with a flag that says what is so anyway."""
    described = {**GAN, "image_range": [-1, 1]}
    for flag, code in (("never", 0), ("always", 1)):
        write(tmp_path / "g.onnx", changed(TANH, "y = Tanh(h)", f"d = Dropout(h, half, {flag})\n y = Tanh(d)"))
        assert bring(tmp_path, described) == code
    assert "decoder: the graph's operator 'Dropout' at 'd' " in capsys.readouterr().err
    (bundle,) = tmp_path.glob("models/*/*")
    for graph in bundle.glob("*.onnx"):
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


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (changed(TANH, "float[N, 3] z", "float[1, 3] z"), "the batch axis of 'z' is fixed at 1"),
        (changed(TANH, "float[N, 3] z", "double[N, 3] z").replace("h = MatMul(z", "f = Cast<to = 1>(z)\n h = MatMul(f"),
         "input 'z' is double; it must be float32"),
        (changed(TANH, "float[N, 3] z", "float[N, 3] z, float[N, 3] c").replace("MatMul(z", "MatMul(s").replace(
            "{ h", "{ s = Add(z, c)\n h"), "inputs are ['z', 'c']; there must be one"),
        (changed(TANH, "(float[N, 3, 2, 2] x)", "(float[N, 3, 2, 2] x, float[N, 12] y)"), "outputs are ['x', 'y']"),
        (changed(TANH, "Tanh(h)", "com.microsoft.QuickGelu(h)"),
         "operator 'QuickGelu' at 'y' is of 'com.microsoft', not ONNX's own"),
        (changed(TANH, "y = Tanh(h)", "n = RandomNormalLike(h)\n m = Add(h, n)\n y = Tanh(m)"),
         "'RandomNormalLike' at 'n' draws random numbers; noise is an input"),
        (changed(TANH, "y = Tanh(h)", "n = ReduceMax<keepdims = 0>(h)\n m = Sub(h, n)\n y = Tanh(m)"),
         "with the other rows of its batch; rows must be independent"),
        (LINEAR, "beyond image_range [-1, 1]"),
        (changed(TANH, "float[N, 3] z", "float[N, 4] z"), "g.onnx: not ONNX that can be used: [ShapeInferenceError]"),
        (changed(TANH, "y = Tanh(h)", "m = Log(h)\n y = Tanh(m)"), "run from nan to nan, beyond image_range"),
        (flat(TANH), "'x' does not say channels, height and width; set image_shape"),
        (changed(TANH, "float[N, 3, 2, 2] x", "float[N, 2, 3, 2] x").replace("shape)", "two)"), "2 channels first"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_be_served_is_refused(tmp_path: Path, capsys: Capture, graph: str, message: str) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 1
    line = capsys.readouterr().err
    assert message in line
    assert line.startswith("latentserve-import: error: ")
    assert line.count("\n") == 1
    assert not list(tmp_path.glob("models/m/*"))


def test_what_is_refused_in_a_description_is_named_with_its_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "model.yaml").write_text("kind: gan\ndecoder:\n  file: g.onnx\n  latent: off\nlatent_dim: 3\n")
    argv = [str(tmp_path / "model.yaml"), "--repository", str(tmp_path / "models"), "--name", "a"]
    assert commands.import_model(argv) == 2
    place = f"{tmp_path / 'model.yaml'}:4"
    said = f"latentserve-import: error: {place}: decoder.latent is false; it must be text: put it in quotes\n"
    assert capsys.readouterr().err == said


def test_an_empty_section_of_a_description_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], "reading": None, "encoder": None}) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "flow"}, "is flow; it must be one of vae, gan"),
        ({"dataset": False}, "dataset is false; it must be text: put it in quotes"),
        ({"labels": [True, False]}, "labels is [True, False]; it must be a whole number or a list of text or whole"),
        ({"image_shape": "small"}, "image_shape is small; it must be a list of whole numbers (Channels, height and"),
        ({"decoder": {"latent": "z"}}, "model.yaml: decoder.file is missing"),
        ({"decoder": {"file": 3}}, "decoder.file must be a path: put it in quotes"),
        ({"encoder": {"file": "e.onnx"}}, "model.yaml: encoder.mean is missing"),
        ({"latent_dim": 0}, "latent_dim is 0; it must be at least 1"),
        ({"latent_dmi": 4}, "latent_dmi: there is no such option; did you mean latent_dim?"),
        ({"image_range": [1, -1]}, "image_range is [1.0, -1.0]; it must be [smallest, largest]"),
        ({"image_range": [0, 1, 2]}, "image_range is [0.0, 1.0, 2.0]; it must be [smallest, largest]"),
        ({"reading": {"background": [0, 0]}}, "reading.background is [0, 0]; it must be [red, green, blue], each from"),
        ({"reading": {"background": [0, 0, 256]}}, "reading.background is [0, 0, 256]; it must be [red, green, blue]"),
        ({"reading": {"filter": "gauss"}}, "filter"),
        ({"reading": "upright"}, "reading is 'upright'; it must hold options of its own"),
        ({"image_shape": [2, 3, 2]}, "image_shape is [2, 3, 2]; it must be [1 or 3 channels, height, width]"),
        ({"likelihood": "bernoulli"}, "likelihood: a vae has one, and a gan has none"),
        ({"kind": "vae", "likelihood": "bernoulli"}, "encoder: a vae has one, and a gan has none"),
        ({"log_scale": 1.0}, "log_scale: a gaussian or discretized_logistic likelihood has one, others have none"),
        ({**VAE, "likelihood": "gaussian", "log_scale": 1e30}, "log_scale is 1e+30; it must be from -30 to 30"),
        ({**VAE, "likelihood": "gaussian", "log_scale": float("nan")}, "log_scale is nan; it must be from -30 to 30"),
        (
            {**VAE, "likelihood": "gaussian", "log_scale": 0.0, "encoder": {"file": "e", "mean": "mu"}},
            "name one of log_variance and standard_deviation",
        ),
    ],
)
def test_a_wrong_description_is_wrong_usage(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], **change}) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 4}, "'z' is [batch, 3], but latent_dim has 4 values"),
        ({"decoder": {"file": "absent.onnx"}}, "absent.onnx: No such file"),
        ({"decoder": {"file": "model.yaml"}}, "not ONNX that can be used"),
        ({"decoder": {"file": "g.onnx", "image": "pixels"}}, "no output 'pixels'; there are ['x']"),
        ({"decoder": {"file": "g.onnx", "latent": "noise"}}, "inputs are ['z']; there must be one, 'noise'"),
        ({"image_range": [0, 1]}, "beyond image_range [0, 1]"),
        ({"image_shape": [3, 4, 1]}, "'x' is [batch, 3, 2, 2], which is not image_shape [3, 4, 1]"),
        ({"image_shape": [1, 3, 2]}, "'x' is [batch, 3, 2, 2], which is not image_shape [1, 3, 2]"),
    ],
)
def test_a_graph_that_does_not_fit_its_description_is_refused(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1], **change}) == 1
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("graph", "change", "message"),
    [
        (SIGMOID, {"encoder": {"file": "e.onnx", "mean": "mean", "log_variance": "s"}}, "no output 'mean'; there are"),
        (SIGMOID, {"decoder": {"file": "g.onnx", "logits": "nothing"}}, "no tensor 'nothing'"),
        (SIGMOID, {"decoder": {"file": "g.onnx", "logits": "y"}}, "the image is not the sigmoid of 'y'"),
        (SIGMOID, {"encoder": {"file": "e.onnx", "mean": "mu", "standard_deviation": "s"}}, "'s' is not positive"),
        (TANH, {}, "no Sigmoid node gives 'x'; name the tensor of the logits in decoder.logits"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: Capture, graph: str, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", graph)
    write(tmp_path / "e.onnx", ENCODER)
    assert bring(tmp_path, {**VAE, "likelihood": "bernoulli", **change}) == 1
    assert message in capsys.readouterr().err


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_text("[1, 2"), "model.yaml: while parsing"),
        (lambda path: path.write_text("dataset: 2024-13-45"), "model.yaml: month must be in 1..12"),
        (lambda path: path.write_text("decoder: 5"), "model.yaml: "),
        (lambda path: path.write_text("- 1"), "model.yaml: holds no mapping of options"),
        (lambda path: path.write_bytes(b"\xff\xfe\xfd"), "model.yaml: "),
    ],
)
def test_a_description_that_cannot_be_read_is_wrong_usage(
    tmp_path: Path, capsys: Capture, damage: Damage, message: str
) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("")
    damage(path)
    assert commands.import_model([str(path), "--repository", str(tmp_path), "--name", "m"]) == 2
    assert message in capsys.readouterr().err
