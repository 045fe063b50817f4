"""Graphs that take one number of rows a run: any number of rows goes through them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loaded_model import loaded
from resigned import resign
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.batching.scheduling import Scheduling
from latentserve_server.engine import Cpu, Engine
from latentserve_server.errors import BundleError
from latentserve_server.latent.prior import Prior, SamplingSpec
from latentserve_server.model.requests import ReconstructRequest, SampleRequest

SIZES = (1, 2, 5)
MODEL = TinyModel(labels=4)


def fix_rows(model: onnx.ModelProto, rows: int) -> None:
    """Let a graph take so many rows and no other number."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = rows
    for constant in model.graph.initializer:
        if constant.name == "image_shape":
            shape = onnx.numpy_helper.to_array(constant).copy()
            shape[0] = rows
            constant.CopyFrom(onnx.numpy_helper.from_array(shape, constant.name))


def write_fixed(directory: Path, rows: int) -> Path:
    """A bundle whose decoder takes so many rows a run, and says so."""

    def say(manifest: pb.Manifest) -> None:
        for graph in manifest.graphs:
            if graph.role == pb.GRAPH_ROLE_DECODER:
                graph.batch_rows = rows

    return MODEL.write(directory, edit_decoder=lambda model: fix_rows(model, rows), edit_manifest=say)


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Engine]:
    """The same decoder for each of SIZES, and under 0 the one that takes any number of rows."""
    root = tmp_path_factory.mktemp("decoders")
    opened = {0: Engine((MODEL.write(root / "any") / "decoder.onnx").read_bytes(), Cpu(threads=1))}
    for rows in SIZES:
        graph = (write_fixed(root / str(rows), rows) / "decoder.onnx").read_bytes()
        opened[rows] = Engine(graph, Cpu(threads=2, portable=rows == SIZES[-1]), rows)
    return opened


@given(rows=st.integers(1, 13), seed=st.integers(0, 2**32), size=st.sampled_from(SIZES))
def test_all_rows_are_computed_in_their_order(decoders: dict[int, Engine], rows: int, seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    inputs = {"latent": random.standard_normal((rows, 3), dtype=np.float32), "label": random.integers(0, 4, rows)}
    wanted = ["image", "image_uint8", "logits"]
    plain, fixed = decoders[0].run(inputs, wanted), decoders[size].run(inputs, wanted)
    for name in wanted:
        assert fixed[name].dtype == plain[name].dtype
        np.testing.assert_allclose(fixed[name], plain[name], rtol=1e-5, atol=1e-6)


def test_memory_is_given_back_after_runs_of_any_size(decoders: dict[int, Engine]) -> None:
    rows = {"latent": np.zeros((3, 3), np.float32), "label": np.zeros(3, np.int64)}
    decoders[2].shrink(rows)
    assert len(decoders[2].run(rows, ["image"])["image"]) == 3


@pytest.mark.parametrize("pad", [False, True])
async def test_a_model_of_such_a_graph_answers_calls_of_any_size(tmp_path: Path, pad: bool) -> None:
    latents = np.random.default_rng(3).standard_normal((7, 3), dtype=np.float32)
    inputs = {"latent": latents, "label": np.arange(7) % 4}
    async with loaded(write_fixed(tmp_path / "fixed", 2), pad=pad, bound=pad) as model:
        result = await model.infer(pb.GRAPH_ROLE_DECODER, inputs, ("image",), Scheduling())
    np.testing.assert_allclose(result.outputs["image"], MODEL.images(latents, inputs["label"]), atol=1e-6)


@pytest.mark.parametrize(("said", "told"), [(0, "a free batch axis"), (3, "a batch axis of 3 rows")])
def test_a_graph_of_another_batch_axis_than_was_said_is_refused(tmp_path: Path, said: int, told: str) -> None:
    graph = (write_fixed(tmp_path / "fixed", 2) / "decoder.onnx").read_bytes()
    with pytest.raises(BundleError, match=f"axis 0 is not {told}"):
        Engine(graph, Cpu(threads=1), said)


@pytest.mark.parametrize("rows", [{"decoder": 2}, {"prior": 3}, {"decoder": 2, "prior": 3, "encoder": 5}])
@pytest.mark.parametrize("bound", [False, True])
async def test_graphs_in_a_row_may_each_take_a_number_of_its_own(
    tmp_path: Path, rows: dict[str, int], bound: bool
) -> None:
    tiny = TinyModel(kind="vq", codes=6, latent_dim=4, noise_dim=2, noises=1)
    plain, fixed = tiny.write(tmp_path / "plain"), tiny.write(tmp_path / "fixed")
    for role, number in rows.items():
        fix_rows(model := onnx.load(fixed / f"{role}.onnx"), number)
        resign(fixed, f"{role}.onnx", model.SerializeToString())
    manifest = json.loads((fixed / "manifest.json").read_text())
    for graph in manifest["graphs"]:
        graph["batch_rows"] = rows.get(graph["role"].removeprefix("GRAPH_ROLE_").lower(), 0)
    (fixed / "manifest.json").write_text(json.dumps(manifest))
    images = (tiny.random_images(7) / 255).astype(np.float32)
    found = []
    for directory in (plain, fixed):
        async with loaded(directory, pad=bound, bound=bound) as model:
            sampling = SamplingSpec(Prior.GRAPH)
            sampled = await model.sample(SampleRequest(rows=7, seed=3, sampling=sampling))
            again = await model.reconstruct(images, ReconstructRequest())
            found.append((sampled.images, again.images))
    for expected, computed in zip(*found, strict=True):
        np.testing.assert_allclose(computed, expected, atol=1e-6)
