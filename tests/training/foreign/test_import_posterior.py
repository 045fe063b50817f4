"""Importing encoders: every way to tell a posterior, and latents with a shape and a scale of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import Parse
from numpy.typing import NDArray
from training.foreign_models import ENCODER, GAN, IMAGES, LATENTS, TANH, VAE, WEIGHTS, bring, refusal, run, write

from latentserve.v1 import bundle_pb2

Capture = pytest.CaptureFixture[str]

PLAIN = {**VAE, "image_range": [-1, 1], "likelihood": "gaussian", "log_scale": 0.0, "prior": "standard_normal"}
SPREAD = (2 * IMAGES - 1).reshape(5, -1) @ WEIGHTS["v"][:, 3:]
MEAN = (2 * IMAGES - 1).reshape(5, -1) @ WEIGHTS["v"][:, :3]


def spread_by(made: str) -> str:
    """The encoder, whose spread s is made of what it was."""
    return ENCODER.replace("mu, s = Split", "mu, t = Split").replace(" }", f"\n {made} }}")


def softplus(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.logaddexp(0, values.astype(np.float64))


@pytest.mark.parametrize(
    ("kind", "made", "log_variance"),
    [
        ("log_variance", "s = Identity(t)", SPREAD),
        ("variance", "s = Exp(t)", SPREAD),
        ("standard_deviation", "s = Exp(t)", 2 * SPREAD),
        ("log_standard_deviation", "s = Identity(t)", 2 * SPREAD),
        ("standard_deviation_before_softplus", "s = Identity(t)", 2 * np.log(softplus(SPREAD))),
        ("standard_deviation_before_softplus", "s = Mul(t, most)", 2 * np.log(softplus(SPREAD * np.float32(255)))),
    ],
)
def test_every_spread_becomes_a_log_variance(
    tmp_path: Path, kind: str, made: str, log_variance: NDArray[np.float64]
) -> None:
    """The last one from far below 0, where the deviation is too small for float32, to far above."""
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", spread_by(made))
    assert bring(tmp_path, {**PLAIN, "encoder": {"file": "e.onnx", "mean": "mu", kind: "s"}}) == 0
    posterior = run(tmp_path, "encoder", IMAGES)
    np.testing.assert_allclose(posterior["mean"], MEAN, rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], log_variance, rtol=1e-5, atol=1e-5)


def test_a_softplus_keeps_its_digits_where_deviations_are_small(tmp_path: Path) -> None:
    """And where they are below what float32 can tell from 0, at exp(-120)."""
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", spread_by("q = Mul(t, nought)\n s = Add(q, low)"))
    encoder = {"file": "e.onnx", "mean": "mu", "standard_deviation_before_softplus": "s"}
    assert bring(tmp_path, {**PLAIN, "encoder": encoder}) == 0
    found = run(tmp_path, "encoder", IMAGES)["log_variance"]
    expected = 2 * np.log(softplus(WEIGHTS["low"]))
    np.testing.assert_allclose(found, np.broadcast_to(expected, (5, 3)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["variance", "standard_deviation"])
def test_a_spread_that_runs_out_of_float32_is_still_a_number(tmp_path: Path, kind: str) -> None:
    """As other images than those of the import's check may make it."""
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", spread_by("s = Exp(t)"))
    assert bring(tmp_path, {**PLAIN, "encoder": {"file": "e.onnx", "mean": "mu", kind: "s"}}) == 0
    found = run(tmp_path, "encoder", 1000 * IMAGES)["log_variance"]
    assert np.isfinite(found[found < 0]).all()
    assert found.min() == pytest.approx((1 if kind == "variance" else 2) * np.log(np.finfo(np.float32).tiny))


WHOLE = ENCODER.replace("float[N, 3] mu, float[N, 3] s", "float[N, 6] m").replace("p = MatMul", "m = MatMul")
WHOLE = WHOLE.replace("\n mu, s = Split(p, halves)", "")
PLANES = WHOLE.replace("float[N, 6] m", "float[N, 6, 1, 1] m").replace(
    "m = MatMul(r, v)", "p = MatMul(r, v)\n m = Reshape(p, sixfold)"
)
LAST = PLANES.replace("[N, 6, 1, 1] m", "[N, 1, 1, 6] m").replace("sixfold", "sixth")


@pytest.mark.parametrize(
    ("graph", "moments", "swapped", "factor"),
    [
        (WHOLE, "m", False, 1),
        (WHOLE, {"tensor": "m"}, False, 1),
        (WHOLE, {"tensor": "m", "order": ["log_standard_deviation", "mean"]}, True, 2),
        (PLANES, "m", False, 1),
        (LAST, {"tensor": "m", "axis": -1}, False, 1),
    ],
)
def test_mean_and_spread_may_be_halves_of_one_tensor(
    tmp_path: Path, graph: str, moments: Any, swapped: bool, factor: int
) -> None:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", graph)
    assert bring(tmp_path, {**PLAIN, "encoder": {"file": "e.onnx", "moments": moments}}) == 0
    posterior = run(tmp_path, "encoder", IMAGES)
    mean, spread = (SPREAD, MEAN) if swapped else (MEAN, SPREAD)
    np.testing.assert_allclose(posterior["mean"], mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], factor * spread, rtol=0, atol=1e-5)


@pytest.mark.parametrize("opset", [7, 13, 26])
def test_a_posterior_is_told_in_any_operator_set(tmp_path: Path, opset: int) -> None:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", WHOLE, opset)
    moments = {"tensor": "m", "order": ["mean", "standard_deviation_before_softplus"]}
    assert bring(tmp_path, {**PLAIN, "encoder": {"file": "e.onnx", "moments": moments}}) == 0
    posterior = run(tmp_path, "encoder", IMAGES)
    np.testing.assert_allclose(posterior["mean"], MEAN, rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], 2 * np.log(softplus(SPREAD)), rtol=0, atol=1e-5)


def test_latents_may_have_a_shape_and_another_scale_for_callers(tmp_path: Path) -> None:
    """As those of diffusers: a caller's latent is scale * (the graph's own - shift), in both graphs."""
    write(
        tmp_path / "g.onnx",
        TANH.replace("float[N, 3] z", "float[N, 3, H, W] z")
        .replace("{ h", "{ q = Flatten(z)\n h")
        .replace("MatMul(z", "MatMul(q"),
    )
    write(tmp_path / "e.onnx", PLANES)
    described = {key: value for key, value in PLAIN.items() if key != "latent_dim"}
    described |= {"latent_shape": [3, 1, 1], "latent_scale": 0.25, "latent_shift": 2.0}
    assert bring(tmp_path, {**described, "image_shape": [3, 2, 2], "encoder": {"file": "e.onnx", "moments": "m"}}) == 0
    posterior = run(tmp_path, "encoder", IMAGES)
    np.testing.assert_allclose(posterior["mean"], 0.25 * (MEAN - 2), rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior["log_variance"], SPREAD + 2 * np.log(0.25), rtol=0, atol=1e-5)
    found = run(tmp_path, "decoder", LATENTS)["image"]
    expected = (np.tanh((LATENTS / 0.25 + 2) @ WEIGHTS["w"]) + 1) / 2
    np.testing.assert_allclose(found.reshape(5, -1), expected, rtol=0, atol=1e-5)
    manifest = Parse((tmp_path / "models" / "m" / "1" / "manifest.json").read_text(), bundle_pb2.Manifest())
    assert manifest.latent.dim == 3


@pytest.mark.parametrize(
    ("graph", "encoder", "message"),
    [
        (
            spread_by("s = Identity(t)"),
            {"mean": "mu", "variance": "s"},
            (
                "encoder: 's' is not positive everywhere, as variances are; the logarithm of a variance "
                "is named in encoder.log_variance"
            ),
        ),
        (
            spread_by("s = Relu(t)"),
            {"mean": "mu", "variance": "s"},
            (
                "encoder: 's' is not positive everywhere, as variances are; the logarithm of a variance "
                "is named in encoder.log_variance"
            ),
        ),
        (
            spread_by("s = Relu(t)"),
            {"mean": "mu", "standard_deviation": "s"},
            (
                "encoder: 's' is not positive everywhere, as deviations are; the logarithm of a variance "
                "is named in encoder.log_variance"
            ),
        ),
        (WHOLE, {"moments": "p"}, "encoder: no output 'p'; there are ['m']"),
        (ENCODER, {"moments": "mu"}, "encoder: 'mu' is [batch, 3], but twice latent_dim has 6 values"),
        (
            PLANES,
            {"moments": {"tensor": "m", "axis": 2}},
            "encoder: 'm' is [batch, 6, 1, 1], which has no halves along axis 2",
        ),
        (
            PLANES,
            {"moments": {"tensor": "m", "axis": 4}},
            "encoder: 'm' is [batch, 6, 1, 1], which has no halves along axis 4",
        ),
    ],
)
def test_a_posterior_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: Capture, graph: str, encoder: dict[str, Any], message: str
) -> None:
    write(tmp_path / "g.onnx", TANH)
    write(tmp_path / "e.onnx", graph)
    assert refusal(tmp_path, capsys, {**PLAIN, "encoder": {"file": "e.onnx", **encoder}}) == (1, message)


CUT = TANH.replace("float[N, 3] z", "float[N, 4] z").replace(
    "h = MatMul(z", "q = Slice(z, zero1, three1, one1)\n h = MatMul(q"
)
ONE = TANH.replace("float[N, 3] z", "float[N] z").replace(
    "h = MatMul(z", "u = Unsqueeze(z, one1)\n q = Concat<axis = 1>(u, u, u)\n h = MatMul(q"
)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (TANH, "decoder: 'z' is [batch, 3], which is not latent_shape [1, 3]"),
        (CUT, "decoder: 'z' is [batch, 4], but latent_shape has 3 values"),
        (ONE, "decoder: 'z' is [batch], but latent_shape has 3 values"),
    ],
)
def test_a_latent_of_another_shape_is_refused(tmp_path: Path, capsys: Capture, graph: str, message: str) -> None:
    write(tmp_path / "g.onnx", graph)
    described = {"kind": "gan", "latent_shape": [1, 3], "decoder": GAN["decoder"], "image_range": [-1, 1]}
    assert refusal(tmp_path, capsys, described) == (1, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_shape": [3]}, "{folder}/model.yaml:11: latent_dim is missing, or latent_shape; give one of both"),
        ({"latent_dim": None}, "{folder}/model.yaml: latent_dim is missing, or latent_shape; give one of both"),
        (
            {"latent_dim": None, "latent_shape": []},
            (
                "{folder}/model.yaml:11: latent_shape is []; it must be 1 to 8 numbers of at least 1, "
                "such as [channels, height, width]"
            ),
        ),
        (
            {"latent_dim": None, "latent_shape": [4, 0]},
            (
                "{folder}/model.yaml:11: latent_shape is [4, 0]; it must be 1 to 8 numbers of at least "
                "1, such as [channels, height, width]"
            ),
        ),
        (
            {"latent_dim": None, "latent_shape": [1] * 8 + [3]},
            (
                "{folder}/model.yaml:11: latent_shape is [1, 1, 1, 1, 1, 1, 1, 1, 3]; it must be 1 to 8 "
                "numbers of at least 1, such as [channels, height, width]"
            ),
        ),
        (
            {"latent_dim": None, "latent_shape": [16, 64, 65]},
            "{folder}/model.yaml:11: latent_shape is [16, 64, 65]; a latent has at most 65,536 values",
        ),
        ({"latent_scale": 0.0}, "{folder}/model.yaml:12: latent_scale is 0.0; it must be from 1e-06 to 1e+06"),
        ({"latent_scale": float("nan")}, "{folder}/model.yaml:12: latent_scale is nan; it must be from 1e-06 to 1e+06"),
        (
            {"latent_shift": float("inf")},
            "{folder}/model.yaml:12: latent_shift is inf; it must be from -1e+06 to 1e+06",
        ),
        (
            {"encoder": {"file": "e.onnx", "mean": "mu", "moments": "m"}},
            ("{folder}/model.yaml:6: encoder.moments holds mean and spread; name them there or apart, not both"),
        ),
        (
            {"encoder": {"file": "e.onnx", "moments": {"tensor": "m", "axis": 0}}},
            ("{folder}/model.yaml:6: encoder.moments.axis is 0, which is the batch; it must be another axis"),
        ),
        (
            {"encoder": {"file": "e.onnx", "moments": {"tensor": "m", "order": ["mean"]}}},
            (
                "{folder}/model.yaml:6: encoder.moments.order is ['mean']; it must be mean and one of "
                "log_variance, variance, standard_deviation, log_standard_deviation or "
                "standard_deviation_before_softplus"
            ),
        ),
        (
            {"encoder": {"file": "e.onnx", "moments": {"tensor": "m", "order": ["mean", "x"]}}},
            (
                "{folder}/model.yaml:6: encoder.moments.order is ['mean', 'x']; it must be mean and one "
                "of log_variance, variance, standard_deviation, log_standard_deviation or "
                "standard_deviation_before_softplus"
            ),
        ),
        (
            {"encoder": {"file": "e.onnx", "moments": {"axis": 1}}},
            "{folder}/model.yaml: encoder.moments.tensor is missing",
        ),
        (
            {"encoder": {"file": "e.onnx", "mean": "mu", "variance": "s", "log_variance": "s"}},
            (
                "{folder}/model.yaml:3: encoder: name one of log_variance, variance, standard_deviation, "
                "log_standard_deviation or standard_deviation_before_softplus"
            ),
        ),
        (
            {"decoder": {"file": "g.onnx", "log_variance": "v"}},
            (
                "{folder}/model.yaml:14: log_scale: a gaussian or discretized_logistic likelihood has "
                "one, others have none"
            ),
        ),
        (
            {
                "likelihood": "discretized_logistic",
                "decoder": {"file": "g.onnx", "log_variance": "v"},
                "log_scale": None,
            },
            ("{folder}/model.yaml:3: decoder.log_variance is only for gaussian; name a scale in decoder.log_scale"),
        ),
        ({"layout": "nwhc"}, "{folder}/model.yaml:12: layout is nwhc; it must be one of nchw, nhwc"),
        (
            {"prior": "normal"},
            "{folder}/model.yaml:14: prior is normal; it must be one of standard_normal, none or options of its own, "
            "or a YAML file of them",
        ),
    ],
)
def test_what_a_description_cannot_say_of_a_vae_is_wrong_usage(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    described = {key: value for key, value in {**PLAIN, **change}.items() if value is not None}
    assert refusal(tmp_path, capsys, described) == (2, message.replace("{folder}", str(tmp_path)))
