"""Weights in a file beside their graph: served as if they were in it, and refused where they are not what was said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from loaded_model import loaded
from resigned import resign
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.batching.scheduling import Scheduling
from latentserve_server.errors import BundleError
from latentserve_server.latent.prior import Prior, SamplingSpec
from latentserve_server.model.requests import SampleRequest

MODEL = TinyModel(kind="gan", conv=True)
WEIGHTS = "decoder.weights"


def write(
    directory: Path,
    edit: Callable[[onnx.ModelProto], None] = lambda model: None,
    tiny: TinyModel = MODEL,
    role: str = "decoder",
) -> Path:
    """A bundle whose graph's larger initializers lie beside it; `edit` may change where the graph says so."""
    tiny.write(directory)
    place = directory / f"{role}.onnx"
    onnx.save(onnx.load(place), place, save_as_external_data=True, location=WEIGHTS, size_threshold=128)
    edit(model := onnx.load(place, load_external_data=False))
    data = (directory / WEIGHTS).read_bytes()
    describe(directory, {"path": WEIGHTS, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}, role)
    return resign(directory, f"{role}.onnx", model.SerializeToString())


def describe(directory: Path, weights: dict[str, Any] | None, role: str = "decoder") -> None:
    """Let the manifest describe a graph's weights so, or not at all."""
    manifest = json.loads((directory / "manifest.json").read_text())
    (graph,) = [graph for graph in manifest["graphs"] if graph["file"]["path"] == f"{role}.onnx"]
    graph.pop("weights", None)
    if weights is not None:
        graph["weights"] = weights
    (directory / "manifest.json").write_text(json.dumps(manifest))


async def test_they_are_served_as_those_within_the_graph_are(tmp_path: Path) -> None:
    latents = np.random.default_rng(1).standard_normal((5, 3), dtype=np.float32)
    found = []
    async with loaded(MODEL.write(tmp_path / "within")) as within, loaded(write(tmp_path / "beside")) as beside:
        for model in (within, beside):
            found.append(await model.infer(pb.GRAPH_ROLE_DECODER, {"latent": latents}, ("image",), Scheduling()))
        size = (tmp_path / "beside" / WEIGHTS).stat().st_size
        graph = (tmp_path / "beside" / "decoder.onnx").stat().st_size
        assert beside.footprints["decoder"].weight_bytes == size + graph
    np.testing.assert_array_equal(found[0].outputs["image"], found[1].outputs["image"])


async def test_those_of_a_prior_are_served_too(tmp_path: Path) -> None:
    tiny, found = TinyModel(kind="autoencoder", noise_dim=50), []
    for directory in (tiny.write(tmp_path / "within"), write(tmp_path / "beside", tiny=tiny, role="prior")):
        async with loaded(directory) as model:
            sampled = await model.sample(SampleRequest(rows=5, seed=1, sampling=SamplingSpec(Prior.GRAPH)))
            found.append(sampled.images)
    assert (tmp_path / "beside" / WEIGHTS).stat().st_size >= 4 * 50 * 3
    np.testing.assert_array_equal(*found)


def shorten(directory: Path) -> None:
    place = directory / WEIGHTS
    place.write_bytes(place.read_bytes()[:-1])


def damage(directory: Path) -> None:
    place = directory / WEIGHTS
    data = bytearray(place.read_bytes())
    data[7] ^= 1
    place.write_bytes(data)


def empty(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(b"")
    describe(directory, {"path": WEIGHTS, "sha256": hashlib.sha256(b"").hexdigest(), "size_bytes": 0})


def claim_too_much(directory: Path) -> None:
    describe(directory, {"path": WEIGHTS, "sha256": "0" * 64, "size_bytes": str(2**62)})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (shorten, r"decoder.weights: \d+ bytes where the manifest says \d+"),
        (damage, "decoder.weights: the SHA-256 is not the manifest's; the file was changed or damaged"),
        (empty, "decoder.weights: 0 bytes where the manifest says 0"),
        (claim_too_much, r"decoder.weights: \d+ bytes where the manifest says 4611686018427387904"),
        (lambda directory: (directory / WEIGHTS).unlink(), "decoder.weights: No such file or directory"),
        (lambda directory: describe(directory, None), "values outside its file.*; external data is not allowed"),
    ],
)
async def test_a_file_that_is_not_what_was_said_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(write(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=told):
        async with loaded(tmp_path / "bundle"):
            raise AssertionError("it was loaded")


def settings(model: onnx.ModelProto, **changed: str) -> None:
    """Change where the first initializer says that its values lie."""
    first = model.graph.initializer[0]
    known = {entry.key: entry.value for entry in first.external_data} | changed
    del first.external_data[:]
    for key, value in known.items():
        first.external_data.add(key=key, value=value)


def say_twice(model: onnx.ModelProto) -> None:
    first = model.graph.initializer[0]
    first.external_data.add(key="location", value=WEIGHTS)


def hide_in_an_attribute(model: onnx.ModelProto) -> None:
    constant = onnx.TensorProto()
    constant.CopyFrom(model.graph.initializer[0])
    node = onnx.helper.make_node("Constant", [], ["beside"], value=constant)
    model.graph.node.insert(0, node)


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: settings(model, location="manifest.json"),
        lambda model: settings(model, location=f"./{WEIGHTS}"),
        lambda model: settings(model, offset="999999999"),
        lambda model: settings(model, offset="-4"),
        lambda model: settings(model, length="1e3"),
        lambda model: settings(model, checksum="0"),
        say_twice,
        hide_in_an_attribute,
    ],
)
async def test_a_graph_may_read_its_own_weights_alone(tmp_path: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    write(tmp_path / "bundle", edit)
    allowed = "the graph has values outside its file.*; they may lie in 'decoder.weights', as its initializers"
    with pytest.raises(BundleError, match=allowed):
        async with loaded(tmp_path / "bundle"):
            raise AssertionError("it was loaded")
