"""A bundle whose graphs or golden rows are not what the manifest promises is refused with what is wrong."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from running_server import running_server
from tiny_bundle import Golden, TinyModel

from latentserve.v1 import models_pb2

Problem = Callable[[Path], Awaitable[str]]


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3


def free_latent(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "latent"


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[-1]


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "z"


def spoil_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Nonsense"


def change_weights(model: onnx.ModelProto) -> None:
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "decoder_bias")
    weights.raw_data = (np.frombuffer(weights.raw_data, np.float32) + np.float32(0.01)).tobytes()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (fix_batch, "decoder: tensor latent: axis 0 is not a free batch axis"),
        (free_latent, "decoder: tensor latent: only axis 0 may be free"),
        (drop_output, "decoder: the graph's tensor 'logits' is not float32"),
        (rename_input, "decoder: the graph's tensor 'latent' is not float32"),
        (spoil_operator, "decoder: onnxruntime cannot open it: .*Nonsense"),
        (change_weights, "decoder: output 'image' does not reproduce the golden rows within 0.0001"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_graph_that_is_not_what_is_promised_is_named(
    tmp_path: Path, problem: Problem, edit: Callable[[onnx.ModelProto], None], message: str
) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1", edit_decoder=edit)
    assert re.search(message, await problem(directory))


def edit_rows(name: str, edit: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Golden], None]:
    return lambda golden: golden.update({name: edit(golden[name])})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_rows("encoder.mean", lambda rows: rows + np.float32(0.001)), "encoder: output 'mean' does not reproduce"),
        (edit_rows("decoder.image_uint8", lambda rows: rows ^ 2), "decoder: output 'image_uint8' does not reproduce"),
        (edit_rows("decoder.logits", lambda rows: rows * np.nan), "decoder: output 'logits' does not reproduce"),
        (edit_rows("decoder.image", lambda rows: rows.astype(np.float64)), "golden rows: decoder.image is not float32"),
        (
            edit_rows("decoder.latent", lambda rows: rows[:, :2]),
            r"golden rows: decoder.latent is not .*\[rows, \*\[3\]",
        ),
        (edit_rows("decoder.latent", lambda rows: rows[:2]), "decoder's tensors do not have the same number of rows"),
        (lambda golden: golden.pop("encoder.image"), "golden rows: encoder.image is not float32"),
        (lambda golden: golden.clear(), "golden rows: "),
        (lambda golden: golden.update({str(i): np.zeros(1) for i in range(65)}), "golden rows: 7. arrays where 64 are"),
    ],
)
async def test_golden_rows_that_do_not_fit_are_told(
    tmp_path: Path, problem: Problem, edit: Callable[[Golden], None], message: str
) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1", edit_golden=edit)
    assert re.search(message, await problem(directory))


async def test_golden_bytes_on_the_edge_between_two_levels_may_fall_to_either_side(tmp_path: Path) -> None:
    edit = edit_rows("decoder.image_uint8", lambda rows: np.clip(rows.astype(int) + 1, 0, 255).astype(np.uint8))
    TinyModel().write(tmp_path / "vae" / "1", edit_golden=edit)
    async with running_server(tmp_path) as served:
        (model,) = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
        assert model.state == models_pb2.MODEL_STATE_READY
