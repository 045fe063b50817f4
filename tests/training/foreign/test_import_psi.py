"""Importing decoders whose psi callers may set, as StyleGAN's truncation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from running_server import running_server
from training.foreign_models import GAN, LATENTS, TANH, WEIGHTS, bring, changed, refusal, write

from latentserve_client import AsyncClient
from latentserve_server.latent.noise import NoiseSource
from latentserve_training import commands

Capture = pytest.CaptureFixture[str]

PSI = {"input": "k", "default": 0.5, "min": -0.25, "max": 1.5}


def styled(form: str, read: str = "f = Identity(k)") -> str:
    """The decoder, with an input `k` of that form, whose reading `f` its latents are multiplied by."""
    graph = TANH.replace("float[N, 3] z", f"float[N, 3] z, {form}")
    return changed(graph, "h = MatMul(z", f"{read}\n q = Mul(z, f)\n h = MatMul(q")


def described(psi: Any = None, **decoder: Any) -> dict[str, Any]:
    shaping = {"psi": {**PSI, **(psi or {})}}
    return {**GAN, "image_range": [-1, 1], "shaping": shaping, "decoder": {"file": "g.onnx", **decoder}}


def drawn(latents: NDArray[np.float32], psi: Any) -> NDArray[np.float32]:
    scaled = latents * np.reshape(np.asarray(psi, np.float32), (-1, 1))
    return ((np.tanh(scaled @ WEIGHTS["w"]) + 1) / 2).reshape(-1, 3, 2, 2)


BY_ROW = [
    styled("float[N, 1] k"),
    styled("float[N] k", "f = Unsqueeze(k, one1)"),
    styled("double[N, 1] k", "f = Cast<to = 1>(k)"),
    styled("float[1, 1] k").replace("[N", "[1"),
]
FOR_ALL = [
    styled("float k"),
    styled("float[1] k"),
    styled("float[1] k").replace("[N", "[1"),
    styled("double k", "f = Cast<to = 1>(k)"),
    # As StyleGAN's: the way from the mean style, [batch, layer, w], is multiplied, and one style is taken.
    styled("float k", "u = Unsqueeze(z, one1)\n s = Mul(u, k)\n t = Squeeze(s, one1)\n o = Sub(z, z)\n e = Exp(o)\n "
           "f = Identity(e)").replace("q = Mul(z, f)", "q = Mul(t, f)"),
]  # fmt: skip
ALONE = styled("float k", "n = Neg(k)\n a = Abs(n)\n i = Identity(k)\n s = Shape(k)\n r = Size(s)\n "
               "c = Cast<to = 1>(r)\n b = Add(k, c)\n f = Identity(b)")  # fmt: skip
"""It adds how many axes psi has, so that a column of psis is not a psi."""


@pytest.mark.parametrize("graph", [*BY_ROW, *FOR_ALL, ALONE])
async def test_a_served_row_has_the_psi_that_its_call_asks_for(tmp_path: Path, graph: str) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, described(latent="z")) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        sampled = [await client.sample("m", 5, seed=7, first_index=2, psi=psi) for psi in (None, -0.25, 1.5)]
        decoded = await client.decode("m", LATENTS)
        info = await client.model("m")
    rows = NoiseSource().draw(7, 2, 5, 3, 0)
    for samples, psi in zip(sampled, (0.5, -0.25, 1.5), strict=True):
        np.testing.assert_allclose(samples.images, drawn(rows, psi), rtol=0, atol=1e-5)
    np.testing.assert_allclose(decoded.images, drawn(LATENTS, 0.5), rtol=0, atol=1e-5)
    assert info.psi is not None
    assert (info.psi.default, info.psi.least, info.psi.most) == (0.5, -0.25, 1.5)


@pytest.mark.parametrize(("graph", "rows"), [*((graph, None) for graph in (*BY_ROW, *FOR_ALL)), (ALONE, 1)])
def test_a_run_has_one_row_where_a_psi_cannot_differ(
    tmp_path: Path, capsys: Capture, graph: str, rows: int | None
) -> None:
    write(tmp_path / "g.onnx", graph)
    assert bring(tmp_path, described(latent="z")) == 0
    manifest = json.loads((tmp_path / "models" / "m" / "1" / "manifest.json").read_text())
    assert manifest["graphs"][0].get("batch_rows") == rows
    warning = (
        "decoder: every run has 1 row, for 'k' is float32 [], and cannot be made to differ from row to row; batches "
        "gain nothing; to have them, export it with 'k' [batch]"
    )
    assert (warning in capsys.readouterr().err) == (rows is not None)


def test_the_picture_of_samples_has_the_default(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", FOR_ALL[0])
    assert bring(tmp_path, described({"default": 1, "min": 0, "max": 1})) == 0
    with Image.open(tmp_path / "models" / "m" / "1" / "samples.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert colours.any()
    assert not (colours == 128).all(axis=1).any()  # which every pixel is of latents that are multiplied by 0


async def test_psi_goes_with_noise_that_has_its_name(tmp_path: Path) -> None:
    graph = styled("float k, float[N, 12] psi")
    write(tmp_path / "g.onnx", changed(graph, "y = Tanh(h)", "m = Add(h, psi)\n y = Tanh(m)"))
    assert bring(tmp_path, described(noise=["psi"])) == 0
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        sampled = await client.sample("m", 5, seed=7, psi=1.5)
    source = NoiseSource()
    logits = 1.5 * source.draw(7, 0, 5, 3, 0) @ WEIGHTS["w"] + source.draw(7, 0, 5, 12, 3)
    np.testing.assert_allclose(sampled.images.reshape(5, -1), (np.tanh(logits) + 1) / 2, rtol=0, atol=1e-5)


WRONG = "it must be float32, float16 or float64, [batch] or [batch, 1], or a single number"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (styled("float[N, 3] k"), f"decoder: shaping.psi: 'k' is float32 [N, 3]; {WRONG}"),
        (styled("float[3] k"), f"decoder: shaping.psi: 'k' is float32 [3]; {WRONG}"),
        (styled("int64 k", "f = Cast<to = 1>(k)"), f"decoder: shaping.psi: 'k' is int64 []; {WRONG}"),
        (styled("float[N, M] k"), f"decoder: shaping.psi: 'k' is float32 [N, M]; {WRONG}"),
        (
            styled("float l", "f = Identity(l)"),
            "decoder: inputs are ['z', 'l']; there must be one, beside 'k'; name it in decoder.latent, and give others "
            "a value: `inputs: {l: 0.0}`",
        ),
    ],
)
def test_an_input_that_cannot_be_psi_is_refused(tmp_path: Path, capsys: Capture, graph: str, message: str) -> None:
    write(tmp_path / "g.onnx", graph)
    assert refusal(tmp_path, capsys, described()) == (1, message)


def test_an_input_that_is_not_there_is_refused(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert refusal(tmp_path, capsys, described()) == (1, "decoder: no input 'k', shaping.psi; there are ['z']")


@pytest.mark.parametrize(
    ("psi", "decoder", "message"),
    [
        ({"default": 2}, {}, "shaping.psi has default 2.0, min -0.25 and max 1.5; default must be from min to max, "),
        ({"max": float("nan")}, {}, "shaping.psi has default 0.5, min -0.25 and max nan; default must be from min to "),
        ({"max": 1e39}, {}, "shaping.psi has default 0.5, min -0.25 and max 1e+39; default must be from min to max, "),
        ({}, {"inputs": {"k": 1}}, "decoder: 'k' is described twice; it is shaping.psi, and something else"),
        ({}, {"latent": "k"}, "decoder: 'k' is described twice; it is shaping.psi, and something else"),
        ({"most": 1}, {}, "shaping"),
    ],
)
def test_a_psi_that_cannot_be_is_wrong_usage(
    tmp_path: Path, capsys: Capture, psi: dict[str, Any], decoder: dict[str, Any], message: str
) -> None:
    code, said = refusal(tmp_path, capsys, described(psi, **decoder))
    assert code == 2
    assert message in said


@pytest.mark.parametrize("graph", [BY_ROW[0], FOR_ALL[0]])
@pytest.mark.parametrize(
    ("arrays", "code"),
    [({"psi": np.linspace(-1, 2, 5)}, 0), ({}, 1), ({"psi": np.zeros(5)}, 1), ({"psi": np.zeros((5, 2))}, 1)],
)
def test_a_reference_has_the_psi_that_its_images_were_drawn_with(
    tmp_path: Path, graph: str, arrays: dict[str, NDArray[Any]], code: int
) -> None:
    write(tmp_path / "g.onnx", graph)
    bring(tmp_path, described())
    image = 2 * drawn(LATENTS, np.linspace(-1, 2, 5)) - 1
    np.savez(tmp_path / "samples.npz", latent=LATENTS, image=image, **arrays)
    argv = [str(tmp_path / "model.yaml"), "--repository", str(tmp_path / "models"), "--name", "m"]
    assert commands.import_model([*argv, "--reference", str(tmp_path / "samples.npz")]) == code


def test_a_reference_without_psi_is_of_the_default(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", FOR_ALL[0])
    np.savez(tmp_path / "samples.npz", latent=LATENTS, image=2 * drawn(LATENTS, 0.5) - 1)
    bring(tmp_path, described())
    argv = [str(tmp_path / "model.yaml"), "--repository", str(tmp_path / "models"), "--name", "m"]
    assert commands.import_model([*argv, "--reference", str(tmp_path / "samples.npz")]) == 0
