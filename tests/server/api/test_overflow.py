"""Rows on which a graph overflows: refused by number, whatever was asked for, while the rows beside are answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from held_graph import Notes, batch_limits
from hypothesis import given
from hypothesis import strategies as st
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from refusal import invalid, invalid_field, refusal
from running_server import RunningServer, running_server
from tested_device import assert_agree
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.batching.batcher import Batcher
from latentserve_server.engine.engine import Cancellation
from latentserve_server.errors import NotFinite
from latentserve_server.workers import Workers

Rows = NDArray[np.float32]

FAR = np.float32(3e38)
MODEL = pb.ModelRef(name="conv")
ROOT = pb.ModelRef(name="root")
FORMATS = {
    name: pb.Output(format=f"IMAGE_FORMAT_{name}") for name in ("FLOAT32", "FLOAT16", "UINT8", "PNG", "JPEG", "WEBP")
} | {"a grid": pb.Output(format=pb.IMAGE_FORMAT_PNG, grid_columns=2)}


def take_the_root(model: onnx.ModelProto) -> None:
    """Let the images be NaN where a latent's first value is negative, which no golden row's is."""
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "image" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "column"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "sides"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    steps = [
        helper.make_node("Gather", ["latent", "column"], ["first_value"], axis=1),
        helper.make_node("Sqrt", ["first_value"], ["flat_root"]),
        helper.make_node("Unsqueeze", ["flat_root", "sides"], ["square_root"]),
        helper.make_node("Mul", ["square_root", "nothing"], ["vanished"]),
        helper.make_node("Add", ["plain", "vanished"], ["image"]),
    ]
    last = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "plain") + 1
    nodes = [*model.graph.node[:last], *steps, *model.graph.node[last:]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models "conv", in which large numbers of both signs meet, and "root"."""
    root = tmp_path_factory.mktemp("models")
    TinyModel(conv=True).write(root / "conv" / "1")
    TinyModel().write(root / "root" / "1", edit_decoder=take_the_root)
    return root


@pytest.fixture
async def server(shelf: Path) -> AsyncIterator[RunningServer]:
    async with running_server(shelf, max_batch_rows=4) as served:
        yield served


def latents(rows: int, *far: int) -> Rows:
    """Latents of which some are far off."""
    array = np.full((rows, 3), 0.5, np.float32)
    array[list(far)] = FAR
    return array


def decode(array: Rows, output: pb.Output = FORMATS["FLOAT32"], model: pb.ModelRef = MODEL) -> pb.DecodeRequest:
    return pb.DecodeRequest(model=model, latents=from_ndarray(array), output=output)


@pytest.mark.parametrize("output", FORMATS.values(), ids=FORMATS.keys())
async def test_the_first_latent_that_is_too_far_off_is_named(server: RunningServer, output: pb.Output) -> None:
    message = await invalid(server.generation.Decode(decode(latents(9, 6, 7), output)))
    assert re.fullmatch(
        r"latents: row 6 is beyond what the decoder computes: output image(_uint8)? is not finite there", message
    )


async def test_ways_that_lead_too_far_off_are_refused(server: RunningServer) -> None:
    start, end = (pb.Points(latents=from_ndarray(latents(2, *far))) for far in ((), (1,)))
    way = pb.InterpolateRequest(model=MODEL, to=end, steps=3, **{"from": start})  # type: ignore[arg-type]
    assert (await invalid(server.generation.Interpolate(way))).startswith("from, to: row 4 ")
    axes = [pb.Axis(dimension=dimension, low=0, high=float(FAR), steps=2) for dimension in (0, 1)]
    walk = pb.TraverseRequest(model=MODEL, axes=axes, output=FORMATS["UINT8"])
    assert re.match(r"axes: row [123] ", await invalid(server.generation.Traverse(walk)))


@pytest.mark.parametrize("wanted", ["image", "image_uint8", "logits"])
async def test_the_open_inference_protocol_refuses_them(server: RunningServer, wanted: str) -> None:
    request = infer_request("conv", "latent", latents(9, 6), wanted)
    message = await invalid(stub_of(server).ModelInfer(request))
    assert message.startswith("inputs.latent: row 6 ")


async def test_calls_beside_one_that_is_refused_are_answered(server: RunningServer) -> None:
    near = decode(latents(2))
    expected = to_ndarray((await server.generation.Decode(near)).images.tensor)
    calls = [server.generation.Decode(decode(latents(2, 1)) if i % 3 == 0 else near) for i in range(12)]
    for i, ending in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
        assert isinstance(ending, grpc.aio.AioRpcError) == (i % 3 == 0)
        if isinstance(ending, pb.DecodeResponse):
            assert_agree(to_ndarray(ending.images.tensor), expected)


async def test_images_beside_one_whose_reconstruction_is_refused_are_scored(server: RunningServer) -> None:
    model = TinyModel()
    images = model.random_images(24)
    refused = model.posterior(images / 255)[0][:, 0] < 0
    assert 0 < refused.sum() < len(images)
    requests = [pb.ReconstructRequest(model=ROOT, images=pb.Images(tensor=from_ndarray(one[None]))) for one in images]
    endings = await asyncio.gather(*map(server.generation.Reconstruct, requests), return_exceptions=True)
    for request, ending, is_refused in zip(requests, endings, refused, strict=True):
        assert isinstance(ending, grpc.aio.AioRpcError) == is_refused
        if isinstance(ending, pb.ReconstructResponse):
            alone = await server.generation.Reconstruct(request)
            assert_agree(list(ending.reconstruction_error), list(alone.reconstruction_error))
            assert_agree(list(ending.kl), list(alone.kl))


async def test_an_image_that_is_impossible_costs_infinite_nats_and_is_no_failure(tmp_path: Path) -> None:
    model = TinyModel(likelihood="gaussian")
    model.weights["log_scale_weight"][:] = 0
    model.weights["log_scale_bias"][:] = -800
    model.write(tmp_path / "sure" / "1")
    images = pb.Images(tensor=from_ndarray(model.random_images(3)))
    async with running_server(tmp_path) as served:
        scores = await served.generation.Score(pb.ScoreRequest(model=pb.ModelRef(name="sure"), images=images))
    assert list(scores.reconstruction_error) == [np.inf] * 3
    assert np.isfinite(scores.kl).all()


async def test_infinite_logits_of_an_image_that_is_0_and_1_matter_to_those_who_ask_for_them(
    server: RunningServer,
) -> None:
    array = np.array([[FAR, 0, 0]], np.float32)
    response = await stub_of(server).ModelInfer(infer_request("root", "latent", array, "image"))
    assert set(arrays_of(response)["image"].flat) == {0.0, 1.0}
    refused = infer_request("root", "latent", array, "image", "logits")
    assert await invalid_field(stub_of(server).ModelInfer(refused)) == "inputs.latent"


@pytest.mark.parametrize("output", [FORMATS["FLOAT32"], FORMATS["PNG"]], ids=["float32", "png"])
async def test_a_model_that_cannot_draw_its_own_prior_has_failed(server: RunningServer, output: pb.Output) -> None:
    error = await refusal(server.generation.Sample(pb.SampleRequest(model=ROOT, count=9, seed=1, output=output)))
    assert error.code() is grpc.StatusCode.INTERNAL


class Echo:
    """Answers x with itself, and with its bytes as an image has them."""

    def run(self, inputs: Mapping[str, Rows], outputs: Sequence[str], cancellation: Cancellation) -> Mapping[str, Any]:
        """Compute."""
        assert set(outputs) in ({"image"}, {"image", "image_uint8"})
        x = inputs["x"]
        return {"image": x, "image_uint8": np.nan_to_num(x, posinf=0, neginf=0).astype(np.uint8)}


VALUES = st.sampled_from([0.0, 1.0, float("nan"), float("inf")])
CALLS = st.lists(st.tuples(st.lists(VALUES, min_size=1, max_size=9), st.booleans()), min_size=1, max_size=6)


@given(calls=CALLS)
async def test_each_call_has_its_own_rows_or_the_first_of_them_that_is_not_finite(
    calls: list[tuple[list[float], bool]],
) -> None:
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(Echo(), executor, Workers(1), Notes(), batch_limits(4, 100))
        batcher.start()
        submitted = [
            batcher.submit({"x": np.array(rows, np.float32)}, ["image_uint8" if as_bytes else "image"])
            for rows, as_bytes in calls
        ]
        endings = await asyncio.gather(*submitted, return_exceptions=True)
        await batcher.close()
    for (rows, as_bytes), ending in zip(calls, endings, strict=True):
        spoiled = [row for row, value in enumerate(rows) if not np.isfinite(value)]
        if spoiled:
            assert isinstance(ending, NotFinite)
            assert ending.row == spoiled[0]
        else:
            assert not isinstance(ending, BaseException)
            assert {name: array.tolist() for name, array in ending.outputs.items()} == {
                "image_uint8" if as_bytes else "image": rows
            }
