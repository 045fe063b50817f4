"""Importing autoencoders, vector-quantised ones and priors of their own, and what a server makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import running_server
from safetensors.numpy import save_file
from training.foreign_models import (
    CODED,
    CODER,
    ENCODER,
    GAN,
    IMAGES,
    LATENTS,
    POINTS,
    TANH,
    VAE,
    WEIGHTS,
    bring,
    refusal,
    write,
)

from latentserve_client import AsyncClient
from latentserve_server.latent.noise import NoiseSource
from latentserve_training import commands

Capture = pytest.CaptureFixture[str]

RANGE = {"image_range": [-1, 1]}
AUTOENCODER = {**GAN, **RANGE, "kind": "autoencoder", "encoder": {"file": "e.onnx"}}
VQ = {
    **RANGE,
    "kind": "vq",
    "latent_shape": [2, 3],
    "codes": 4,
    "decoder": {"file": "g.onnx"},
    "encoder": {"file": "e.onnx"},
}
CODES = np.random.default_rng(1).integers(4, size=(5, 2, 3))
FLOW = "p (float[N, 3] n) => (float[N, 3] l) { t = Tanh(n)\n l = MatMul(t, turn) }"


def drawn(latents: NDArray[Any]) -> NDArray[np.float32]:
    return ((np.tanh(latents @ WEIGHTS["w"]) + 1) / 2).reshape(-1, 3, 2, 2)


def decoded(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = WEIGHTS["table"][codes.reshape(len(codes), 6)].mean(axis=1)
    return ((np.tanh(rows) + 1) / 2).reshape(-1, 3, 2, 2)


def encoded(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return (2 * images - 1).reshape(len(images), 12) @ WEIGHTS["v"]


def points(folder: Path) -> None:
    write(folder / "g.onnx", TANH)
    write(folder / "e.onnx", POINTS)


def quantised(folder: Path, whole: str = "int64") -> None:
    number = {"int64": 7, "int32": 6}[whole]
    write(folder / "g.onnx", CODED.replace("int64", whole))
    write(folder / "e.onnx", CODER.replace("int64", whole).replace("to = 7", f"to = {number}"))


@pytest.mark.parametrize("named", [{}, {"latent": "mu"}])
async def test_an_autoencoder_encodes_to_latents_and_does_not_sample(
    tmp_path: Path, capsys: Capture, named: dict[str, str]
) -> None:
    points(tmp_path)
    described = {**AUTOENCODER, "latent_scale": 0.5, "latent_shift": 1.0, "encoder": {"file": "e.onnx", **named}}
    assert bring(tmp_path, described) == 0
    assert capsys.readouterr().err == (
        "latentserve-import: prior: none is described, so a server will decode and encode but not sample; state "
        "`prior: standard_normal` if the decoder was made for it, or a mixture or a graph, or `prior: none`\n"
    )
    assert not (tmp_path / "models/m/1/samples.png").exists()
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        model = await client.model("m")
        decoding = await client.decode("m", LATENTS)
        encoding = await client.encode("m", IMAGES)
    assert (model.kind, model.prior) == ("autoencoder", "")
    np.testing.assert_allclose(decoding.images, drawn(2 * LATENTS + 1), rtol=0, atol=1e-5)
    assert encoding.mean is not None
    np.testing.assert_allclose(encoding.mean, 0.5 * (encoded(IMAGES)[:, :3] - 1), rtol=0, atol=1e-5)


async def test_an_autoencoder_whose_decoder_is_made_for_normal_latents_samples(tmp_path: Path, capsys: Capture) -> None:
    points(tmp_path)
    gaussian = {"prior": "standard_normal", "likelihood": "gaussian", "log_scale": 0.0}
    assert bring(tmp_path, {**AUTOENCODER, **gaussian}) == 0
    assert capsys.readouterr().err == ""
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        sampled = await client.sample("m", 4, seed=3)
    np.testing.assert_allclose(sampled.images, drawn(NoiseSource().draw(3, 0, 4, 3, 0)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("whole", ["int64", "int32"])
async def test_a_vector_quantised_autoencoder_has_codes_of_its_own_shape(tmp_path: Path, whole: str) -> None:
    quantised(tmp_path, whole)
    assert bring(tmp_path, {**VQ, "prior": "none"}) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        model = await client.model("m")
        decoding = await client.decode("m", CODES)
        encoding = await client.encode("m", IMAGES)
    assert (model.kind, model.codes, model.latent_shape) == ("vq", 4, (2, 3))
    np.testing.assert_allclose(decoding.images, decoded(CODES), rtol=0, atol=1e-5)
    expected = np.floor(4 / (1 + np.exp(-encoded(IMAGES)))).reshape(5, 2, 3)
    assert encoding.codes is not None
    np.testing.assert_array_equal(encoding.codes, expected)


@pytest.mark.parametrize("kind", ["vae", "gan", "autoencoder"])
async def test_latents_are_drawn_by_a_graph(tmp_path: Path, kind: str) -> None:
    points(tmp_path)
    write(tmp_path / "p.onnx", FLOW)
    described: dict[str, Any] = {**AUTOENCODER, "kind": kind, "latent_scale": 0.5, "prior": {"graph": "p.onnx"}}
    if kind == "vae":
        write(tmp_path / "e.onnx", ENCODER)
        described |= {"encoder": VAE["encoder"], "likelihood": "gaussian", "log_scale": 0.0}
    if kind == "gan":
        del described["encoder"]
    assert bring(tmp_path, described) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        model = await client.model("m")
        sampled = await client.sample("m", 4, seed=3)
    assert model.prior == "graph"
    own = np.tanh(NoiseSource().draw(3, 0, 4, 3, 0)) @ TURN
    np.testing.assert_allclose(sampled.images, drawn(own), rtol=0, atol=1e-5)


TURN = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 2]], np.float32)


async def test_codes_are_drawn_by_a_graph(tmp_path: Path) -> None:
    quantised(tmp_path)
    prior = (
        "p (float[N, 6] n) => (int32[N, 2, 3] l) { s = Sigmoid(n)\n t = Mul(s, four)\n i = Cast<to = 6>(t)\n"
        " l = Reshape(i, grid) }"
    )
    write(tmp_path / "p.onnx", prior)
    assert bring(tmp_path, {**VQ, "prior": {"graph": "p.onnx", "noise": "n", "latent": "l", "noise_dim": 6}}) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        sampled = await client.sample("m", 4, seed=3)
    noise = NoiseSource().draw(3, 0, 4, 6, 0)
    expected = decoded(np.floor(4 / (1 + np.exp(-noise.astype(np.float64)))).astype(np.int64))
    np.testing.assert_allclose(sampled.images, expected, rtol=0, atol=1e-5)


FACTORS = np.array([[[1, 0, 0], [0.5, 1, 0], [0, 0.2, 0.4]], [[0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.3]]])
MIXTURE = {"weights": np.array([0.25, 0.75]), "means": np.array([[1.0, 2, 3], [-1, 0, 1]]), "factors": FACTORS}
COVARIANCES = FACTORS @ FACTORS.transpose(0, 2, 1)


@pytest.mark.parametrize(
    ("file", "arrays"),
    [
        ("mixture.npz", MIXTURE),
        ("mixture.npz", {"weights": MIXTURE["weights"], "means": MIXTURE["means"], "covariances": COVARIANCES}),
        ("mixture.safetensors", {name: array.astype(np.float32) for name, array in MIXTURE.items()}),
    ],
)
async def test_latents_are_drawn_from_a_mixture(tmp_path: Path, file: str, arrays: dict[str, NDArray[Any]]) -> None:
    points(tmp_path)
    if file.endswith("npz"):
        np.savez(tmp_path / file, **arrays)
    else:
        save_file(arrays, tmp_path / file)
    assert bring(tmp_path, {**AUTOENCODER, "prior": {"mixture": file}}) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        model = await client.model("m")
        sampled = await client.sample("m", 400, seed=3)
    assert model.prior == "mixture"
    random = np.random.default_rng(0)
    chosen = random.choice(2, 4000, p=MIXTURE["weights"])
    noise = np.einsum("nij,nj->ni", FACTORS[chosen], random.standard_normal((4000, 3)))
    expected = drawn(MIXTURE["means"][chosen] + noise)
    np.testing.assert_allclose(sampled.images.mean(0), expected.mean(0), rtol=0, atol=0.08)
    np.testing.assert_allclose(sampled.images.std(0), expected.std(0), rtol=0, atol=0.08)


WRONG_MIXTURES: list[tuple[dict[str, NDArray[Any]], str]] = [
    (
        {"weights": MIXTURE["weights"]},
        ": arrays are ['weights']; there must be weights, means, and factors or covariances",
    ),
    ({**MIXTURE, "means": np.ones((2, 4))}, ": means is [2, 4]; it must be [2, 3]"),
    ({**MIXTURE, "weights": np.array([0.5, 0.6])}, ": weights must be positive, and their sum 1"),
    ({**MIXTURE, "means": np.full((2, 3), np.nan)}, ": means must hold finite numbers"),
    ({**MIXTURE, "factors": COVARIANCES}, ": factors must be lower triangular with positive diagonals"),
    (
        {"weights": MIXTURE["weights"], "means": MIXTURE["means"], "covariances": FACTORS},
        ": covariances must be symmetric",
    ),
    (
        {"weights": MIXTURE["weights"], "means": MIXTURE["means"], "covariances": -COVARIANCES},
        ": covariances must be positive definite",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG_MIXTURES)
def test_a_mixture_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: Capture, arrays: dict[str, NDArray[Any]], message: str
) -> None:
    points(tmp_path)
    np.savez(tmp_path / "m.npz", **arrays)
    said = f"prior.mixture: {tmp_path}/m.npz{message}"
    assert refusal(tmp_path, capsys, {**AUTOENCODER, "prior": {"mixture": "m.npz"}}) == (1, said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": {"mixture": "absent.npz"}}, "prior.mixture: {folder}/absent.npz: No such file or directory"),
        (
            {"prior": {"mixture": "g.onnx"}},
            "prior.mixture: {folder}/g.onnx: neither a NumPy archive (.npz) nor safetensors",
        ),
        ({"prior": {"graph": "absent.onnx"}}, "prior: {folder}/absent.onnx: No such file or directory"),
        (
            {"prior": {"graph": "p.onnx", "noise_dim": 4}},
            "prior: 'n' is [batch, 3], but prior.noise_dim is 4",
        ),
        ({"prior": {"graph": "g.onnx"}}, "prior: 'x' is [batch, 3, 2, 2], but latent_dim has 3 values"),
        ({"encoder": {"file": "e.onnx", "latent": "s"}}, "encoder: no output 's'; there are ['mu']"),
        (
            {"kind": "vq", "codes": 4, "encoder": {"file": "e.onnx"}},
            "decoder: input 'z' is float32; it must be int64 or int32",
        ),
    ],
)
def test_latents_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    points(tmp_path)
    write(tmp_path / "p.onnx", FLOW)
    assert refusal(tmp_path, capsys, {**AUTOENCODER, **change}) == (1, message.replace("{folder}", str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": 3}, "encoder: 'c' holds 1 to 3; codes are 0 to 2, `codes: 3`"),
        ({"codes": 5}, "decoder: onnxruntime cannot run batches of 64: "),
        ({"latent_shape": [3, 2]}, "decoder: 'z' is [batch, 2, 3], which is not latent_shape [3, 2]"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    quantised(tmp_path)
    code, said = refusal(tmp_path, capsys, {**VQ, **change})
    assert code == 1
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({**GAN, "codes": 4}, "codes: a vq has a number of them, others have none"),
        ({**VQ, "codes": None}, "codes: a vq has a number of them, others have none"),
        ({**VQ, "codes": 0}, "codes are 0; there must be 1 to 2,147,483,647"),
        ({**VQ, "latent_scale": 2.0}, "latent_scale and latent_shift are for latents that are numbers, not codes"),
        ({**VQ, "prior": "standard_normal"}, "prior is standard_normal; codes have none, or a graph"),
        (
            {**VQ, "prior": {"mixture": "m.npz"}},
            "prior.mixture is for latents that are numbers; codes have a graph, or none",
        ),
        (
            {**VQ, "encoder": {"file": "e.onnx", "latent": "c"}},
            "encoder.latent is for kind autoencoder; the kind is vq",
        ),
        ({**GAN, "prior": "none"}, "prior is none; a gan draws its latents from one"),
        ({**GAN, "prior": {}}, "prior: name a graph or a mixture, and not both"),
        ({**GAN, "prior": {"graph": "p", "mixture": "m"}}, "prior: name a graph or a mixture, and not both"),
        ({**GAN, "prior": {"mixture": "m", "noise": "n"}}, "prior.noise is for a graph; a mixture has none"),
        ({**GAN, "prior": {"graph": "p", "noise_dim": 0}}, "prior.noise_dim is 0; it must be from 1 to 65,536"),
        ({**GAN, "prior": {"graph": "p", "label": "c"}}, "prior.label is for a model with labels"),
        (
            {**AUTOENCODER, "encoder": {"file": "e.onnx", "moments": "m"}},
            "encoder.moments is for kind vae; the kind is autoencoder",
        ),
    ],
)
def test_what_a_kind_cannot_have_is_wrong_usage(
    tmp_path: Path, capsys: Capture, change: dict[str, Any], message: str
) -> None:
    described = {key: value for key, value in change.items() if value is not None}
    code, said = refusal(tmp_path, capsys, described)
    assert code == 2
    assert said.endswith(f": {message}")


def test_a_reference_tells_codes(tmp_path: Path, capsys: Capture) -> None:
    quantised(tmp_path)
    bring(tmp_path, {**VQ, "prior": "none"})
    images = 2 * decoded(CODES) - 1
    codes = np.floor(4 / (1 + np.exp(-encoded(decoded(CODES))))).astype(np.int64).reshape(5, 2, 3)
    argv = [str(tmp_path / "model.yaml"), "--repository", str(tmp_path / "models"), "--name", "m"]
    argv += ["--reference", str(tmp_path / "samples.npz")]
    np.savez(tmp_path / "samples.npz", latent=CODES, image=images, codes=codes)
    assert commands.import_model(argv) == 0
    assert "encoder: largest difference from 5 rows of samples.npz: codes 0.0e+00" in capsys.readouterr().err
    np.savez(tmp_path / "samples.npz", latent=CODES, image=images, codes=(codes + 1) % 4)
    assert commands.import_model(argv) == 1
    assert "encoder: codes differs from samples.npz by 1; allowed is 0.0001" in capsys.readouterr().err
