"""A mixture, labels, a calibration or graphs that are not what the format says make a bundle that is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import running_server
from tiny_bundle import Golden, TinyModel

from latentserve.v1 import bundle_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve.v1.generation_pb2 import ModelRef
from latentserve_server.bundle.bundle import parse_mixture, read_bundle
from latentserve_server.errors import BundleError

Problem = Callable[[Path], Awaitable[str]]
FULL = TinyModel(components=3, labels=4, quantiles=tuple(range(101)), likelihood="gaussian")


async def test_a_bundle_with_everything_is_served_and_described(tmp_path: Path) -> None:
    FULL.write(tmp_path / "full" / "1")
    async with running_server(tmp_path) as served:
        model = (await served.models.GetModel(models_pb2.GetModelRequest(model=ModelRef(name="full")))).model
    assert (model.manifest.latent.mixture.components, model.manifest.labels.count) == (3, 4)
    assert models_pb2.CAPABILITY_SCORE in model.capabilities


def test_the_mixture_is_read_to_the_bit(tmp_path: Path) -> None:
    mixture, written = read_bundle(FULL.write(tmp_path / "full")).mixture, FULL.mixture()
    assert mixture is not None
    for name, array in written.items():
        np.testing.assert_array_equal(getattr(mixture, name), array, strict=True)


def put(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Golden], None]:
    """An edit that changes one of the mixture's arrays."""

    def edit(arrays: Golden) -> None:
        arrays[name] = change(arrays[name].copy())

    return edit


def set_at(place: Any, value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda arrays: arrays.pop("means"), "there is no array 'means'"),
        (put("weights", lambda a: a.astype(np.float32)), "weights is float32 [3], not float64 [3]"),
        (put("weights", lambda a: a[:2]), "weights is float64 [2], not float64 [3]"),
        (put("weights", lambda a: a * (1 + 1e-5)), "the weights are not positive with sum 1 within 1e-06"),
        (put("weights", lambda a: np.array([1.2, -0.4, 0.2])), "the weights are not positive with sum 1 within 1e-06"),
        (put("weights", set_at(0, np.nan)), "weights has a value that is not finite"),
        (put("means", lambda a: a.astype(np.float64)), "means is float64 [3, 3], not float32 [3, 3]"),
        (put("means", lambda a: a.astype(bool)), "means is bool [3, 3], not float32 [3, 3]"),
        (put("means", lambda a: np.zeros((3, 9999), np.float32)), "means is float32 [3, 9999], not float32 [3, 3]"),
        (put("means", set_at((1, 1), np.inf)), "means has a value that is not finite"),
        (put("factors", lambda a: a.transpose(0, 2, 1)), "the factors are not lower triangular"),
        (put("factors", set_at((2, 1, 1), 0)), "the factors' diagonals are not positive"),
        (put("factors", set_at((2, 2, 2), -1)), "the factors' diagonals are not positive"),
        (put("factors", lambda a: a[:, 0]), "factors is float32 [3, 3], not float32 [3, 3, 3]"),
    ],
)
async def test_a_mixture_that_is_none_is_named(
    tmp_path: Path, problem: Problem, edit: Callable[[Golden], None], message: str
) -> None:
    directory = FULL.write(tmp_path / "vae" / "1", edit_mixture=edit)
    assert await problem(directory) == f"mixture: {message}"


def test_what_is_no_mixture_is_refused() -> None:
    with pytest.raises(BundleError, match=r"^mixture: not a safetensors file: "):
        parse_mixture(b"no arrays", 3, 3)
    with pytest.raises(BundleError, match="the factors of 4096 components are over 536870912 bytes"):
        parse_mixture(b"", 4096, 65_536)


async def test_an_ordinary_model_has_a_label_in_no_graph(tmp_path: Path, problem: Problem) -> None:
    directory = TinyModel(labels=4).write(tmp_path / "vae" / "1", edit_manifest=lambda m: m.ClearField("labels"))
    assert await problem(directory) == "encoder: the graph's inputs are ['image', 'label'] where ['image'] are fed"


def add_graph(precision: pb.Precision, role: pb.GraphRole) -> Callable[[pb.Manifest], None]:
    def edit(manifest: pb.Manifest) -> None:
        graph = next(graph for graph in manifest.graphs if graph.role == role)
        manifest.graphs.add().CopyFrom(graph)
        manifest.graphs[-1].precision = precision

    return edit


async def test_a_graph_of_lower_precision_stands_beside_the_one_of_float32(tmp_path: Path) -> None:
    edit = add_graph(pb.PRECISION_FLOAT16, pb.GRAPH_ROLE_DECODER)
    directory = TinyModel().write(tmp_path / "vae" / "1", edit_manifest=edit)
    assert read_bundle(directory).graphs == {
        pb.GRAPH_ROLE_DECODER: (directory / "decoder.onnx").read_bytes(),
        pb.GRAPH_ROLE_ENCODER: (directory / "encoder.onnx").read_bytes(),
    }
