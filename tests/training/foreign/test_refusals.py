"""What is said of ONNX files that cannot be imported, and of descriptions that are wrong or do not fit them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from training.foreign_models import (
    ENCODER,
    GAN,
    LINEAR,
    SIGMOID,
    TANH,
    VAE,
    changed,
    conditional_decoder,
    flat,
    refusal,
    write,
)

from latentserve_training import commands

Capture = pytest.CaptureFixture[str]
DESCRIBED = {**GAN, "image_range": [-1, 1]}
COMPUTED = re.compile(r"-?\d\.\d\d+(e-\d+)?")
OTHERS = re.compile(r"(?<=: not ONNX that can be used: ).+|(?<= cannot run batches of 64: ).+")
"""What onnx and onnxruntime say."""


def told(folder: Path, capsys: Capture, description: dict[str, Any], code: int = 1) -> str:
    """What is said of an import that is refused; figures that were computed are `#`, and others' words `...`."""
    found, said = refusal(folder, capsys, description)
    assert found == code
    return COMPUTED.sub("#", OTHERS.sub("...", said))


def at_node(text: str) -> str:
    """The generator with another node or other nodes in the place of its Tanh."""
    return changed(TANH, "y = Tanh(h)", text)


TWO_INPUTS = changed(changed(TANH, "float[N, 3] z", "float[N, 3] z, float[N, 3] c"), "MatMul(z", "MatMul(s")
CHECKED = "rows drawn to check it; a server serves finite numbers alone"
CLIP = "`clip: true` takes the nearest allowed ones in their place"
WHOLE = changed(changed(TANH, "float[N, 3] z", "int64[N, 3] z"), "h = MatMul(z", "f = Cast<to = 1>(z)\n h = MatMul(f")
GRAPHS: list[tuple[str, str]] = [
    (WHOLE, "decoder: input 'z' is int64; it must be float32, float16 or float64"),
    (
        changed(TWO_INPUTS, "{ h", "{ s = Add(z, c)\n h"),
        "decoder: inputs are ['z', 'c']; there must be one; name it in decoder.latent, and give others a value: "
        "`inputs: {{c: 0.0}}`, or `noise: [c]` if it is drawn anew for every image",
    ),
    (
        changed(TANH, "(float[N, 3, 2, 2] x)", "(float[N, 3, 2, 2] x, float[N, 12] y)"),
        "decoder: outputs are ['x', 'y']; name the one that is meant",
    ),
    (
        at_node("n = ReduceMax<keepdims = 0>(h)\n m = Sub(h, n)\n y = Tanh(m)"),
        "decoder: 'image' of a row changes by # with the other rows of its batch; rows must be independent",
    ),
    (LINEAR, f"decoder: pixels of 'x' run from # to #, beyond image_range [-1, 1]; {CLIP}"),
    (changed(TANH, "float[N, 3] z", "float[N, 4] z"), "decoder: {folder}/g.onnx: not ONNX that can be used: ..."),
    (at_node("m = Log(h)\n y = Tanh(m)"), f"decoder: 'x' is NaN (not a number) somewhere in 64 of 64 {CHECKED}"),
    (at_node("m = Div(h, nought)\n y = Exp(m)"), f"decoder: 'x' is infinity somewhere in 64 of 64 {CHECKED}"),
    (flat(TANH), "decoder: 'x' does not say channels, height and width; set image_shape"),
]


@pytest.mark.parametrize(("graph", "message"), GRAPHS)
def test_a_graph_that_cannot_be_served_is_refused(tmp_path: Path, capsys: Capture, graph: str, message: str) -> None:
    write(tmp_path / "g.onnx", graph)
    assert told(tmp_path, capsys, DESCRIBED) == message.format(folder=tmp_path)


OWN, TEXT = "it must hold options of its own", "it must be text: put it in quotes"
BACKGROUND = "it must be [red, green, blue], each from 0 to 255"
GAUSSIAN = {**VAE, "likelihood": "gaussian"}
LABELLED = {"labels": 4, "decoder": {"file": "g.onnx", "label": "c"}}
LABEL = "decoder.label: a model with labels has one, others have none"
SPREADS = "log_variance, variance, standard_deviation, log_standard_deviation or standard_deviation_before_softplus"
DESCRIPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "flow"}, ":6: kind is flow; it must be one of vae, gan, autoencoder, vq"),
    ({"dataset": False}, f":1: dataset is false; {TEXT}"),
    (
        {"labels": [True, False]},
        ":7: labels is [True, False]; it must be a whole number or a list of text or whole numbers (How many labels a "
        "conditional model knows, or what they are called, from label 0); put text in quotes",
    ),
    (
        {"image_shape": "small"},
        ":6: image_shape is small; it must be a list of whole numbers (Channels, height and width, in this order; "
        "needed where the decoder's output does not say them)",
    ),
    ({"decoder": {"latent": "z"}}, ": decoder.file is missing"),
    ({"decoder": {"file": 3}}, ":2: decoder.file must be a path: put it in quotes"),
    ({"decoder": "g.onnx"}, f": decoder is 'g.onnx'; {OWN}"),
    (
        {**VAE, "likelihood": "bernoulli", "encoder": {"file": "e.onnx"}},
        ": encoder.mean is missing, or encoder.moments where one tensor holds mean and spread",
    ),
    ({"latent_dim": 0}, ":7: latent_dim is 0; it must be at least 1"),
    ({"latent_dmi": 4}, ":8: latent_dmi: there is no such option; did you mean latent_dim?"),
    ({"image_range": [1, -1]}, ":3: image_range is [1.0, -1.0]; it must be [smallest, largest]"),
    ({"image_range": [0, 1, 2]}, ":3: image_range is [0.0, 1.0, 2.0]; it must be [smallest, largest]"),
    ({"reading": {"background": [0, 0]}}, f":9: reading.background is [0, 0]; {BACKGROUND}"),
    ({"reading": {"background": [0, 0, 256]}}, f":9: reading.background is [0, 0, 256]; {BACKGROUND}"),
    (
        {"reading": {"filter": "gauss"}},
        ":9: reading.filter is gauss; it must be one of nearest, box, bilinear, bicubic, lanczos",
    ),
    ({"reading": "upright"}, f": reading is 'upright'; {OWN}"),
    (
        {"image_shape": [1025, 3, 2]},
        ":6: image_shape is [1025, 3, 2]; it must be [1 to 1,024 channels, height, width]",
    ),
    (
        {"image_shape": [3, 4096, 4097]},
        ":6: image_shape is [3, 4096, 4097]; an image has at most 16,777,216 pixels",
    ),
    ({"latent_dim": 65537}, ":7: latent_dim is 65537; a latent has at most 65,536 values"),
    ({"likelihood": "bernoulli"}, ":8: likelihood: a gan has none"),
    ({"kind": "vae", "likelihood": "bernoulli"}, ": encoder: a gan has none, and every other kind has one"),
    ({"encoder": {"file": "e.onnx", "mean": "m"}}, ":5: encoder.mean is for kind vae; the kind is gan"),
    ({"encoder": {"file": "e.onnx"}}, ":3: encoder: a gan has none, and every other kind has one"),
    (VAE, ": likelihood: a vae has one"),
    (
        {"log_scale": 1.0},
        ":8: log_scale: a gaussian or discretized_logistic likelihood has one, others have none",
    ),
    ({**GAUSSIAN, "log_scale": 1e30}, ":13: log_scale is 1e+30; it must be from -30 to 30"),
    ({**GAUSSIAN, "log_scale": float("nan")}, ":13: log_scale is nan; it must be from -30 to 30"),
    (
        {**GAUSSIAN, "log_scale": 0.0, "encoder": {"file": "e", "mean": "mu"}},
        f":3: encoder: name one of {SPREADS}",
    ),
    ({"decoder": LABELLED["decoder"]}, f":3: {LABEL}"),
    ({"labels": 4}, f": {LABEL}"),
    ({**LABELLED, "labels": 1}, ":8: labels are 1; there must be 2 to 65,536"),
    (
        {**LABELLED, "labels": ["a", "b", "a"]},
        ":8: labels are ['a', 'b', 'a']; each must have a name of its own",
    ),
    (
        {**VAE, "likelihood": "bernoulli", "encoder": {**VAE["encoder"], "label": "c"}},
        ":5: encoder.label is for a model with labels",
    ),
]
"""What is changed in a description, and the line and words of what is said of it."""


@pytest.mark.parametrize(("change", "message"), DESCRIPTIONS)
def test_a_wrong_description_is_wrong_usage(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert told(tmp_path, capsys, {**DESCRIBED, **change}, code=2) == f"{tmp_path / 'model.yaml'}{message}"


SHAPE = "decoder: 'x' is [batch, 3, 2, 2], which is not image_shape"
MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"latent_dim": 4}, "decoder: 'z' is [batch, 3], but latent_dim has 4 values"),
    ({"decoder": {"file": "absent.onnx"}}, "decoder: {folder}/absent.onnx: No such file or directory"),
    ({"decoder": {"file": "model.yaml"}}, "decoder: {folder}/model.yaml: not ONNX that can be used: ..."),
    ({"decoder": {"file": "g.onnx", "image": "pixels"}}, "decoder: no output 'pixels'; there are ['x']"),
    (
        {"decoder": {"file": "g.onnx", "latent": "noise"}},
        "decoder: inputs are ['z']; there must be one, 'noise'",
    ),
    ({"image_range": [0, 1]}, f"decoder: pixels of 'x' run from -1 to #, beyond image_range [0, 1]; {CLIP}"),
    ({"image_shape": [3, 4, 1]}, f"{SHAPE} [3, 4, 1]"),
    ({"image_shape": [1, 3, 2]}, f"{SHAPE} [1, 3, 2]"),
]


@pytest.mark.parametrize(("change", "message"), MISFITS)
def test_a_graph_that_does_not_fit_its_description_is_refused(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert told(tmp_path, capsys, {**DESCRIBED, **change}) == message.format(folder=tmp_path)


VAES: list[tuple[str, dict[str, Any], str]] = [
    (
        SIGMOID,
        {"encoder": {"file": "e.onnx", "mean": "mean", "log_variance": "s"}},
        "encoder: no output 'mean'; there are ['mu', 's']",
    ),
    (
        SIGMOID,
        {"decoder": {"file": "g.onnx", "logits": "nothing"}},
        "decoder: no tensor 'nothing'; it must be what a node gives",
    ),
    (
        SIGMOID,
        {"decoder": {"file": "g.onnx", "logits": "y"}},
        "decoder: the image is not the sigmoid of 'y', from which it differs by #; "
        "name the tensor of the logits in decoder.logits",
    ),
    (
        SIGMOID,
        {"encoder": {"file": "e.onnx", "mean": "mu", "standard_deviation": "s"}},
        "encoder: 's' is not positive everywhere, as deviations are; "
        "the logarithm of a variance is named in encoder.log_variance",
    ),
    (TANH, {}, "decoder: no Sigmoid node gives 'x'; name the tensor of the logits in decoder.logits"),
]


@pytest.mark.parametrize(("graph", "change", "message"), VAES)
def test_a_vae_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: Capture, graph: str, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", graph)
    write(tmp_path / "e.onnx", ENCODER)
    assert told(tmp_path, capsys, {**VAE, "likelihood": "bernoulli", **change}) == message


VARYING = "export it with a batch that varies (torch.onnx.export: dynamic_shapes, of the older exporter dynamic_axes)"
ANY = (
    "it must be int64 or int32 [batch], or float32 [batch, 4] for one-hot rows; rows of other numbers are given by "
    "label_embeddings"
)
LABELS: list[tuple[str, dict[str, Any], str]] = [
    ("int64[N] c", {"labels": 5}, "decoder: onnxruntime cannot run batches of 64: ..."),
    ("int64[N] c", {"labels": 300}, "decoder: onnxruntime cannot run batches of 64: ..."),
    (
        "int64[N] c",
        {"decoder": {"file": "g.onnx", "label": "d"}},
        "decoder: inputs are ['z', 'c']; there must be one, beside 'd'; name it in decoder.latent, and give "
        "others a value: `inputs: {c: 0}`",
    ),
    (
        "int64[N] c",
        {"decoder": {"file": "g.onnx", "label": "z"}},
        "decoder: input 'c' is int64; it must be float32, float16 or float64",
    ),
    ("int64[1] c", {}, f"decoder: the batch axis of 'c' is fixed at 1; {VARYING}"),
    ("float[N, 5] c", {}, f"decoder: label input 'c' is float32 [batch, 5]; {ANY}"),
    ("float[N] c", {}, f"decoder: label input 'c' is float32 [batch]; {ANY}"),
    ("int64[N, M] c", {}, f"decoder: label input 'c' is int64 [batch, ?]; {ANY}"),
]


@pytest.mark.parametrize(("form", "change", "message"), LABELS)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: Capture, form: str, change: dict[str, Any], message: str
) -> None:
    counted = "Gather(table, first)\n n = Size(c)\n o = Cast<to = 1>(n)"
    text = conditional_decoder(form, "Gather(table, c)" if form == "int64[N] c" else counted)
    write(tmp_path / "g.onnx", text if form == "int64[N] c" else changed(text, "Add(h, e)", "Sum(h, e, o)"))
    assert told(tmp_path, capsys, {**DESCRIBED, **LABELLED, **change}) == message


def test_an_input_that_nothing_depends_on_is_named(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", conditional_decoder("int64[N] c", "Gather(table, first)"))
    said = "decoder: none of ['x'] depends on the input 'c'; leave its name out"
    assert told(tmp_path, capsys, {**DESCRIBED, **LABELLED}) == said


TEXTS: list[tuple[bytes | None, str]] = [
    (None, ": No such file or directory"),
    (b"[1, 2", ": ..."),
    (b"dataset: 2024-13-45", ": ..."),
    (b"\xff\xfe\xfd", ": ..."),
    (b"decoder: 5", f": decoder is 5; {OWN}"),
    (b"- 1", ": holds no mapping of options"),
    (
        b"kind: gan\ndecoder:\n  file: g.onnx\n  latent: off\nlatent_dim: 3\n",
        f":4: decoder.latent is false; {TEXT}",
    ),
]


@pytest.mark.parametrize(("text", "message"), TEXTS)
def test_a_description_that_cannot_be_read_is_wrong_usage(
    tmp_path: Path, capsys: Capture, text: bytes | None, message: str
) -> None:
    path = tmp_path / "model.yaml"
    if text is not None:
        path.write_bytes(text)
    assert commands.import_model([str(path), "--repository", str(tmp_path), "--name", "m"]) == 2
    line = capsys.readouterr().err
    beginning = f"latentserve-import: error: {path}{message}"
    if message.endswith("..."):  # PyYAML's and Python's own words
        assert line.startswith(beginning.removesuffix("..."))
        assert line.count("\n") == 1
    else:
        assert line == f"{beginning}\n"
