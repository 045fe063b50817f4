"""Importing graphs that ask for more than latents, images and labels as numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from training.foreign_models import ENCODER, GAN, IMAGES, LATENTS, TANH, VAE, WEIGHTS, bring, refusal, run, write

Capture = pytest.CaptureFixture[str]

LABELS = np.array([3, 0, 2, 1, 3])


def scaled(form: str, factor: str = "k") -> str:
    """The decoder, whose latents are multiplied by an input `k` of that form."""
    return TANH.replace("float[N, 3] z", f"float[N, 3] z, {form}").replace(
        "h = MatMul(z", f"q = Mul(z, {factor})\n h = MatMul(q"
    )


def using(form: str) -> str:
    """The decoder with further inputs, of that form, which all of its pixels depend on."""
    names = [part.split()[-1] for part in form.split(", ") if part.split()[-1] in ("c", "k", "l")]
    nodes = "".join(f"f{name} = Cast<to = 1>({name})\n s{name} = ReduceSum<keepdims = 0>(f{name})\n " for name in names)
    added = "".join(f", s{name}" for name in names)
    graph = TANH.replace("float[N, 3] z", f"float[N, 3] z, {form}").replace("{ h", f"{{ {nodes}h")
    return graph.replace("y = Tanh(h)", f"m = Sum(h{added})\n y = Tanh(m)")


def described(**decoder: Any) -> dict[str, Any]:
    return {**GAN, "image_range": [-1, 1], "decoder": {"file": "g.onnx", **decoder}}


def drawn(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((np.tanh(latents @ WEIGHTS["w"]) + 1) / 2).reshape(5, 3, 2, 2)


@pytest.mark.parametrize(
    ("graph", "value", "factor"),
    [
        (scaled("float k"), 0.7, 0.7),
        (scaled("float[1] k"), 0.7, 0.7),
        (scaled("float[N, 1] k"), 0.7, 0.7),
        (scaled("float[3] k"), 2, 2.0),
        (scaled("float[3] k"), [0.5, 1, -1.5], np.array([0.5, 1, -1.5])),
        (scaled("float[N, 3] k"), [0.5, 1, -1.5], np.array([0.5, 1, -1.5])),
        (scaled("float[1, 3] k"), [[0.5, 1, -1.5]], np.array([0.5, 1, -1.5])),
        (scaled("int64 k", "f").replace("{ q", "{ f = Cast<to = 1>(k)\n q"), 3, 3.0),
        (scaled("bool k", "f").replace("{ q", "{ f = Cast<to = 1>(k)\n q"), True, 1.0),
        (scaled("float16 k", "f").replace("{ q", "{ f = Cast<to = 1>(k)\n q"), 0.7, float(np.float16(0.7))),
        (scaled("double[N] k", "f").replace("{ q", "{ c = Cast<to = 1>(k)\n f = Unsqueeze(c, one1)\n q"), 0.7, 0.7),
    ],
)
def test_an_input_that_never_changes_gets_its_value(
    tmp_path: Path, graph: str, value: Any, factor: float | NDArray[np.float64]
) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, described(inputs={"k": value})) == 0
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found, drawn(LATENTS * np.float32(factor)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["float[1] k", "float[1, 1] k"])
def test_a_graph_of_one_row_at_a_time_has_inputs_that_never_change(tmp_path: Path, form: str) -> None:
    write(tmp_path / "g.onnx", scaled(form).replace("[N, ", "[1, "))
    assert bring(tmp_path, described(latent="z", inputs={"k": 0.7})) == 0
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found, drawn(LATENTS * np.float32(0.7)), rtol=0, atol=1e-6)


def test_an_encoder_s_input_gets_its_value(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", scaled("float k"))
    write(tmp_path / "e.onnx", ENCODER.replace("[N, 3, 2, 2] a", "[N, 3, 2, 2] a, float[N] k").replace(
        "r = Flatten(a)", "f = Unsqueeze(k, one1)\n q = Flatten(a)\n r = Mul(q, f)"))  # fmt: skip
    encoder = {**VAE["encoder"], "inputs": {"k": 3.0}}
    model = described(inputs={"k": 0.5}) | {"kind": "vae", "likelihood": "gaussian", "log_scale": 0, "encoder": encoder}
    assert bring(tmp_path, model) == 0
    mean = run(tmp_path, "encoder", IMAGES)["mean"]
    expected = 3 * (2 * IMAGES - 1).reshape(5, -1) @ WEIGHTS["v"][:, :3]
    np.testing.assert_allclose(mean, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("form", "decoder", "message"),
    [
        (
            "float[N, 3] k",
            {},
            (
                "decoder: inputs are ['z', 'k']; there must be one; name it in decoder.latent, and give "
                "others a value: `inputs: {k: 0.0}`, or `noise: [k]` if it is drawn anew for every image"
            ),
        ),
        (
            "float[N, 3] k",
            {"latent": "z"},
            (
                "decoder: no value for input 'k' (float32 [N, 3]); add to decoder, with values of yours: "
                "`inputs: {k: 0.0}`, or `noise: [k]` if it is drawn anew for every image"
            ),
        ),
        (
            "int64 k, bool[2] l",
            {"latent": "z"},
            (
                "decoder: no value for input 'k' (int64 []), 'l' (bool [2]); add to decoder, with values "
                "of yours: `inputs: {k: 0, l: false}`"
            ),
        ),
        (
            "float k",
            {"latent": "w", "inputs": {"k": 1}},
            "decoder: inputs are ['z', 'k']; there must be one, 'w', beside 'k'",
        ),
        ("float k", {"inputs": {"k": 1, "l": 1}}, "decoder.inputs: no input 'l'; there are ['z', 'k']"),
        (
            "float[2] k",
            {"inputs": {"k": [1, 2, 3]}},
            "decoder.inputs: 'k' is float32 [2]; [1, 2, 3] cannot be its value",
        ),
        (
            "float[2] k",
            {"inputs": {"k": [[1, 2], [3]]}},
            "decoder.inputs: 'k' is float32 [2]; [[1, 2], [3]] cannot be its value",
        ),
        ("float k", {"inputs": {"k": "much"}}, "decoder.inputs: 'k' is float32 []; 'much' cannot be its value"),
        ("float k", {"inputs": {"k": None}}, "decoder.inputs: 'k' is float32 []; None cannot be its value"),
        ("float k", {"inputs": {"k": True}}, "decoder.inputs: 'k' is float32 []; True cannot be its value"),
        ("int64 k", {"inputs": {"k": 0.7}}, "decoder.inputs: 'k' is int64 []; 0.7 cannot be its value"),
        ("float16 k", {"inputs": {"k": 1e6}}, "decoder.inputs: 'k' is float16 []; 1000000.0 cannot be its value"),
        ("float k", {"inputs": {"k": float("nan")}}, "decoder.inputs: 'k' is float32 []; nan cannot be its value"),
        (
            "float[N, M] k",
            {"inputs": {"k": 1}},
            ("decoder.inputs: 'k' is float32 [N, M]; of an input that is given a value, only the batch may be open"),
        ),
    ],
)
def test_a_value_that_is_missing_or_does_not_fit_is_refused(
    tmp_path: Path, capsys: Capture, form: str, decoder: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", using(form))
    assert refusal(tmp_path, capsys, described(**decoder)) == (1, message)


def labelled(form: str) -> str:
    """The decoder, which adds an input `c` to what Tanh reads."""
    return TANH.replace("float[N, 3] z", f"float[N, 3] z, {form}").replace("y = Tanh(h)", "m = Add(h, f)\n y = Tanh(m)")


@pytest.mark.parametrize(
    ("form", "read", "dtype", "shape"),
    [
        ("float[N, 12] c", "f = Identity(c)", np.float32, (4, 12)),
        ("float[N, 12] c", "f = Identity(c)", np.float64, (4, 12)),
        ("double[N, 3, 4] c", "d = Flatten(c)\n f = Cast<to = 1>(d)", np.float32, (4, 3, 4)),
    ],
)
def test_labels_are_looked_up_in_embeddings(
    tmp_path: Path, form: str, read: str, dtype: type[np.floating[Any]], shape: tuple[int, ...]
) -> None:
    write(tmp_path / "g.onnx", labelled(form).replace("{ h", f"{{ {read}\n h"))
    np.save(tmp_path / "rows.npy", WEIGHTS["table"].astype(dtype).reshape(shape))
    assert bring(tmp_path, {**described(label="c", label_embeddings="rows.npy"), "labels": 4}) == 0
    found = run(tmp_path, "decoder", LATENTS, LABELS)["image"]
    expected = (np.tanh(LATENTS @ WEIGHTS["w"] + WEIGHTS["table"][LABELS]) + 1) / 2
    np.testing.assert_allclose(found.reshape(5, -1), expected, rtol=0, atol=1e-6)
    manifest = json.loads((tmp_path / "models" / "m" / "1" / "manifest.json").read_text())
    origin = json.loads(manifest["provenance"]["config_json"])["decoder"]
    assert origin["label_embeddings_sha256"] == hashlib.sha256((tmp_path / "rows.npy").read_bytes()).hexdigest()
    assert "label_embeddings" not in origin


TABLE = WEIGHTS["table"]


@pytest.mark.parametrize(
    ("form", "table", "message"),
    [
        ("float[N, 12] c", TABLE[:3], "decoder.label_embeddings: {folder}/rows.npy is [3, 12]; it must be [4, 12]"),
        ("float[N, 12] c", TABLE.T, "decoder.label_embeddings: {folder}/rows.npy is [12, 4]; it must be [4, 12]"),
        (
            "float[N, 12] c",
            TABLE.astype(bool),
            "decoder.label_embeddings: {folder}/rows.npy: not a NumPy file of numbers",
        ),
        (
            "float[N, 12] c",
            TABLE * np.inf,
            "decoder.label_embeddings: {folder}/rows.npy holds what is not a finite float32",
        ),
        (
            "float16[N, 12] c",
            1e6 * TABLE,
            "decoder.label_embeddings: {folder}/rows.npy holds what is not a finite float16",
        ),
        (
            "float[N, 12] c",
            TABLE.astype(object),
            "decoder.label_embeddings: {folder}/rows.npy: not a NumPy file of numbers",
        ),
        ("float[N, 12] c", None, "decoder.label_embeddings: {folder}/rows.npy: No such file or directory"),
        (
            "int64[N] c",
            TABLE,
            (
                "decoder: label input 'c' is int64 [batch]; with label_embeddings it must be floats of a "
                "shape that is known"
            ),
        ),
        (
            "float[N, M] c",
            TABLE,
            (
                "decoder: label input 'c' is float32 [batch, ?]; with label_embeddings it must be floats "
                "of a shape that is known"
            ),
        ),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: Capture, form: str, table: NDArray[Any] | None, message: str
) -> None:
    write(tmp_path / "g.onnx", using(form))
    if table is not None:
        np.save(tmp_path / "rows.npy", table, allow_pickle=True)
    model = {**described(label="c", label_embeddings="rows.npy"), "labels": 4}
    assert refusal(tmp_path, capsys, model) == (1, message.replace("{folder}", str(tmp_path)))


def test_embeddings_without_an_input_are_wrong_usage(tmp_path: Path, capsys: Capture) -> None:
    assert bring(tmp_path, described(label_embeddings="rows.npy")) == 2
    assert "decoder.label_embeddings are for an input named in decoder.label" in capsys.readouterr().err
