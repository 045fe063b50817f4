"""A batch axis that an export fixed is made to vary where the graph then draws the same, and kept where not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from running_server import running_server
from torch import Tensor, nn
from training.foreign_models import ENCODER, GAN, IMAGES, LATENTS, TANH, VAE, WEIGHTS, bring, refusal, run, write

from latentserve_client import AsyncClient

Capture = pytest.CaptureFixture[str]

SHAPES = {
    "back": np.array([1, 3, 2, 2]),
    "rest": np.array([1, -1]),
    "pair": np.array([2, 3, 2, 2]),
    "wide": np.array([1, 12]),
    "sizes": np.array([1, 3, 4, 4]),
    "line": np.array([1, 3, 4]),
    "three": np.array([3]),
    "six": np.array([6]),
    "one": np.array([1]),
    "ones": np.array([1, 1]),
    "many": np.array([4097, 3, 2, 2]),
    "planes": np.array([1, 6, 2, 2]),
    "kernel": np.array([6, 1, 1, 1]),
    "kernels": np.array([6, 3, 1, 1]),
}
DRAWN = "h = MatMul(z, w)\n y = Tanh(h)\n x = Reshape(y, back)"


def written(path: Path, signature: str, nodes: str, opset: int = 18) -> Path:
    """A file with the constants of SHAPES that its nodes use."""
    write(path, f"g {signature} {{ {nodes} }}", opset)
    model = onnx.load(path)
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in SHAPES.items() if name in used
    )
    onnx.save(model, path)
    return path


def in_runs_of(rows: int, path: Path, *inputs: NDArray[Any]) -> NDArray[np.float32]:
    """What the file draws of its inputs, so many rows at a time; as many rows as fill whole runs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    runs = []
    for start in range(0, len(inputs[0]) - rows + 1, rows):
        fed = {name: value[start : start + rows] for name, value in zip(names, inputs, strict=True)}
        runs.append(session.run(None, fed)[0])
    return np.concatenate(runs)


def assert_drawn(folder: Path, expected: NDArray[np.float32], *inputs: NDArray[Any]) -> None:
    """The bundle draws pixels from 0 to 1 of those from -1 to 1 that are expected, in a batch and alone."""
    found = run(folder, "decoder", *(value[: len(expected)] for value in inputs))["image"]
    np.testing.assert_allclose(found, (expected + 1) / 2, rtol=0, atol=1e-6)
    alone = run(folder, "decoder", *(value[:1] for value in inputs))["image"]
    np.testing.assert_allclose(alone, (expected[:1] + 1) / 2, rtol=0, atol=1e-6)


VARYING = "export it with a batch that varies (torch.onnx.export: dynamic_shapes, of the older exporter dynamic_axes)"
FIXED = "latentserve-import: warning: decoder: its batch axis, fixed at {} by the file, was made to vary\n"


@pytest.mark.parametrize(
    ("nodes", "opset", "side"),
    [
        (DRAWN, 18, 2),
        (DRAWN, 9, 2),
        ("r = Reshape(z, rest)\n h = MatMul(r, w)\n y = Tanh(h)\n x = Reshape(y, back)", 18, 2),
        ("h = MatMul(z, w)\n y = Tanh(h)\n e = Expand(y, wide)\n x = Reshape(e, back)", 18, 2),
        (
            'h = MatMul(z, w)\n r = Reshape(h, back)\n b = Resize<mode = "linear">(r, , , sizes)\n x = Tanh(b)',
            18,
            4,
        ),
        (
            "h = MatMul(z, w)\n o = ConstantOfShape(line)\n r = Reshape(h, line)\n "
            "s = Concat<axis = 1>(o, r)\n t = Slice(s, three, six, one)\n y = Tanh(t)\n x = Reshape(y, back)",
            18,
            2,
        ),
    ],
)
def test_a_decoder_of_one_row_at_a_time_draws_batches(
    tmp_path: Path, capsys: Capture, nodes: str, opset: int, side: int
) -> None:
    path = written(tmp_path / "g.onnx", f"(float[1, 3] z) => (float[1, 3, {side}, {side}] x)", nodes, opset)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert capsys.readouterr().err == FIXED.format(1)
    assert_drawn(tmp_path, in_runs_of(1, path, LATENTS), LATENTS)


def test_a_decoder_of_two_rows_at_a_time_draws_any_number(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path / "g.onnx", "(float[2, 3] z) => (float[2, 3, 2, 2] x)", DRAWN.replace("back", "pair"))
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert capsys.readouterr().err == FIXED.format(2)
    assert_drawn(tmp_path, in_runs_of(2, path, LATENTS), LATENTS)


def test_labels_of_one_row_vary_with_the_latents(tmp_path: Path) -> None:
    nodes = "h = MatMul(z, w)\n e = Gather(table, c)\n m = Add(h, e)\n y = Tanh(m)\n x = Reshape(y, back)"
    path = written(tmp_path / "g.onnx", "(float[1, 3] z, int64[1] c) => (float[1, 3, 2, 2] x)", nodes)
    described = {**GAN, "decoder": {"file": "g.onnx", "label": "c"}, "labels": 4, "image_range": [-1, 1]}
    assert bring(tmp_path, described) == 0
    labels = np.array([3, 0, 2, 1, 3])
    assert_drawn(tmp_path, in_runs_of(1, path, LATENTS, labels), LATENTS, labels)


def test_logits_inside_of_a_file_that_onnxruntime_does_not_open_are_those_of_single_rows(tmp_path: Path) -> None:
    """As onnx 1.23 writes it: a newer version of the format, a fixed batch, and a Sigmoid whose input is inside."""
    nodes = "h = MatMul(z, w)\n y = Sigmoid(h)\n x = Reshape(y, back)"
    path = written(tmp_path / "g.onnx", "(float[1, 3] z) => (float[1, 3, 2, 2] x)", nodes)
    model = onnx.load(path)
    model.ir_version = 14
    onnx.save(model, path)
    write(tmp_path / "e.onnx", ENCODER.replace("float[N", "float[1"))
    assert bring(tmp_path, {**VAE, "likelihood": "bernoulli"}) == 0
    found = run(tmp_path, "decoder", LATENTS)["logits"]
    np.testing.assert_allclose(found.reshape(5, -1), LATENTS @ WEIGHTS["w"], rtol=1e-5, atol=1e-5)
    posterior = run(tmp_path, "encoder", IMAGES)
    np.testing.assert_allclose(posterior["mean"], (IMAGES.reshape(5, -1) @ WEIGHTS["v"])[:, :3], rtol=0, atol=1e-5)


class Upsampling(nn.Module):
    """A decoder whose code looks at the batch's size in several places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2 * 2 * 4)
        self.convolution = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        rows = latent.shape[0]
        grid = self.first(latent).view(rows, 4, 2, 2)
        large = nn.functional.interpolate(grid, size=(4, 4), mode="bilinear", align_corners=False)
        flat = self.convolution(large).tanh().reshape(rows, -1)
        return flat.view(rows, 3, 4, 4)


@pytest.mark.parametrize("dynamo", [False, True], ids=["older exporter", "exporter"])
@pytest.mark.parametrize("rows", [1, 2])
def test_what_torch_exports_without_a_word_of_the_batch_is_made_to_vary(
    tmp_path: Path, capsys: Capture, rows: int, dynamo: bool
) -> None:
    torch.manual_seed(rows)
    decoder, path = Upsampling().eval(), tmp_path / "g.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        torch.onnx.export(decoder, (torch.zeros(rows, 3),), path, input_names=["z"], output_names=["x"],
                          dynamo=dynamo, external_data=False, verbose=False)  # fmt: skip
    capsys.readouterr()
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert FIXED.format(rows) in capsys.readouterr().err
    assert_drawn(tmp_path, in_runs_of(rows, path, LATENTS), LATENTS)


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        (
            "h = MatMul(z, w)\n m = ReduceMean<keepdims = 1>(h)\n d = Sub(h, m)\n y = Tanh(d)\n x = Reshape(y, back)",
            "'x' comes out otherwise in a batch of 2",
        ),
        (
            "h = MatMul(z, w)\n s = Squeeze(h, first)\n y = Tanh(s)\n x = Reshape(y, back)",
            "Squeeze",
        ),
    ],
)
async def test_a_graph_that_cannot_do_without_its_number_of_rows_runs_as_often_as_they_need(
    tmp_path: Path, capsys: Capture, nodes: str, problem: str
) -> None:
    path = written(tmp_path / "g.onnx", "(float[1, 3] z) => (float[1, 3, 2, 2] x)", nodes)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        "latentserve-import: warning: decoder: every run has 1 row, as the file has it, for it cannot be made to take "
        f"others ({problem}"
    )
    assert said.endswith(f"); batches gain nothing beyond that; to have them, {VARYING}\n")
    assert said.count("\n") == 1
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        decoded = await client.decode("m", LATENTS)
    np.testing.assert_allclose(decoded.images, (in_runs_of(1, path, LATENTS) + 1) / 2, rtol=0, atol=1e-6)


async def test_a_graph_of_two_rows_a_run_draws_the_last_row_of_an_odd_number(tmp_path: Path, capsys: Capture) -> None:
    pair = "a, b = Split<axis = 0>(h, ones)\n c = Concat<axis = 0>(a, b)"
    nodes = f"h = MatMul(z, w)\n {pair}\n y = Tanh(c)\n x = Reshape(y, pair)"
    path = written(tmp_path / "g.onnx", "(float[2, 3] z) => (float[2, 3, 2, 2] x)", nodes)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert "decoder: every run has 2 rows" in capsys.readouterr().err
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        decoded = await client.decode("m", LATENTS)
    expected = in_runs_of(2, path, np.concatenate([LATENTS, LATENTS[:1]]))[:5]
    np.testing.assert_allclose(decoded.images, (expected + 1) / 2, rtol=0, atol=1e-6)


def test_a_convolution_whose_weights_are_each_rows_own_is_named(tmp_path: Path, capsys: Capture) -> None:
    """As StyleGAN2 has it: its rows are groups, whose number no ONNX file can leave open."""
    nodes = (
        "h = MatMul(z, w)\n p = Reshape(h, planes)\n r = Reshape(z, kernel)\n k = Expand(r, kernels)\n "
        "c = Conv<group = 2>(p, k)\n y = Tanh(c)\n x = Reshape(y, pair)"
    )
    path = written(tmp_path / "g.onnx", "(float[2, 3] z) => (float[2, 3, 2, 2] x)", nodes)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert capsys.readouterr().err == (
        "latentserve-import: warning: decoder: every run has 2 rows, as the file has it, for it cannot be made to take "
        "others (Conv 'c' has weights of each row's own, in as many groups as there are rows, which ONNX fixes; scale "
        f"what it reads and gives in their place); batches gain nothing beyond that; to have them, {VARYING}\n"
    )
    found = run(tmp_path, "decoder", LATENTS[:2])["image"]
    np.testing.assert_allclose(found, (in_runs_of(2, path, LATENTS[:2]) + 1) / 2, rtol=0, atol=1e-6)


def test_rows_of_a_run_that_look_at_each_other_are_refused(tmp_path: Path, capsys: Capture) -> None:
    nodes = (
        "h = MatMul(z, w)\n m = ReduceMax<keepdims = 1>(h, first)\n d = Sub(h, m)\n y = Tanh(d)\n x = Reshape(y, pair)"
    )
    written(tmp_path / "g.onnx", "(float[2, 3] z) => (float[2, 3, 2, 2] x)", nodes)
    code, said = refusal(tmp_path, capsys, {**GAN, "image_range": [-1, 1]}, warned=True)
    assert code == 1
    assert said.endswith("with the other rows of its batch; rows must be independent")


def test_a_graph_of_more_rows_than_a_bundle_may_demand_is_refused(tmp_path: Path, capsys: Capture) -> None:
    nodes = "h = MatMul(z, w)\n m = ReduceMean<keepdims = 1>(h)\n d = Sub(h, m)\n y = Tanh(d)\n x = Reshape(y, many)"
    written(tmp_path / "g.onnx", "(float[4097, 3] z) => (float[4097, 3, 2, 2] x)", nodes)
    code, said = refusal(tmp_path, capsys, {**GAN, "image_range": [-1, 1]})
    assert code == 1
    assert said == (
        "decoder: the graph takes 4097 rows at a time and cannot be made to take others: 'x' comes out otherwise in a "
        f"batch of 1; a bundle's may demand 4,096 at most; {VARYING}"
    )


def test_inputs_that_differ_in_their_rows_are_named(tmp_path: Path, capsys: Capture) -> None:
    nodes = "h = MatMul(z, w)\n e = Gather(table, c)\n m = Add(h, e)\n y = Tanh(m)\n x = Reshape(y, pair)"
    written(tmp_path / "g.onnx", "(float[1, 3] z, int64[2] c) => (float[2, 3, 2, 2] x)", nodes)
    described = {**GAN, "decoder": {"file": "g.onnx", "label": "c"}, "labels": 4, "image_range": [-1, 1]}
    code, said = refusal(tmp_path, capsys, described)
    assert code == 1
    assert said.startswith("decoder: the batch axis of 'z' is fixed at 1; export it with a batch that varies")


def test_a_graph_whose_batch_varies_is_not_touched(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "g.onnx", TANH)
    assert bring(tmp_path, {**GAN, "image_range": [-1, 1]}) == 0
    assert capsys.readouterr().err == ""
    found = run(tmp_path, "decoder", LATENTS)["image"]
    np.testing.assert_allclose(found.reshape(5, -1), (np.tanh(LATENTS @ WEIGHTS["w"]) + 1) / 2, rtol=0, atol=1e-6)
