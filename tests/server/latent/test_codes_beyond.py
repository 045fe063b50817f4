"""Graphs that give codes outside of their codebook: the calls of those rows fail, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from inference_requests import infer_request, stub_of
from loaded_model import loaded
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from refusal import refusal
from resigned import resign
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.errors import EngineFailure
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.model.requests import ReconstructRequest

MODEL = TinyModel(kind="vq", codes=6, latent_dim=4, noise_dim=2)
REF = pb.ModelRef(name="vq")
FLOAT32 = pb.Output(format=pb.IMAGE_FORMAT_FLOAT32)
WHITE = 2


def stray(bundle: Path, role: str, source: str, limit: float, by: int) -> None:
    """Let the graph's last code of a row be others by so much where the first value of its input is over a limit."""
    model = onnx.load(bundle / f"{role}.onnx")
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["right" if name == "codes" else name for name in node.output]
    move = np.zeros(MODEL.latent_dim, np.int64)
    move[-1] = by
    for name, value in {
        "stray/limit": np.array(limit, np.float32),
        "stray/shape": np.array([0, -1]),
        "stray/first": np.array([0]),
        "stray/move": move,
    }.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.node.extend(
        [
            helper.make_node("Reshape", [source, "stray/shape"], ["stray/rows"]),
            helper.make_node("Gather", ["stray/rows", "stray/first"], ["stray/value"], axis=1),
            helper.make_node("Greater", ["stray/value", "stray/limit"], ["stray/over"]),
            helper.make_node("Cast", ["stray/over"], ["stray/times"], to=onnx.TensorProto.INT64),
            helper.make_node("Mul", ["stray/times", "stray/move"], ["stray/moved"]),
            helper.make_node("Add", ["right", "stray/moved"], ["codes"]),
        ]
    )
    onnx.checker.check_model(model, full_check=True)
    resign(bundle, f"{role}.onnx", model.SerializeToString())


@pytest.fixture(params=[(6, "never"), (-6, "always")], ids=["above", "below, padded"])
async def served(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    """A server of the model, whose prior strays for noise over 1 and whose encoder does for white corners."""
    by, padded = request.param
    bundle = MODEL.write(tmp_path / "vq" / "1")
    stray(bundle, "prior", "noise", 1.0, by)
    stray(bundle, "encoder", "image", 0.9999, by)
    async with running_server(tmp_path, max_batch_rows=8, pad_batches=padded) as server:
        yield server


def strays(first: int) -> NDArray[np.bool_]:
    """Which of the three rows from `first` on have a noise on which the prior strays."""
    return np.asarray(NoiseSource().draw(7, first, 3, 2, 0)[:, 0] > 1)


def pictures(white: Iterable[int] = ()) -> NDArray[np.uint8]:
    """Three images, of which some have a white corner."""
    images = np.minimum(MODEL.random_images(3), 250)
    images[list(white), 0, 0, 0] = 255
    return images


def told(error: grpc.aio.AioRpcError, graph: str, row: int) -> bool:
    """Whether an error says which graph of the model gave a code beyond, and in which row of the call."""
    said = error.details() or ""
    assert error.code() is grpc.StatusCode.INTERNAL
    return said.startswith(f"model 'vq': output 'codes' of its {graph}: row {row} holds code ") and said.endswith(
        "; 0 to 5 are allowed"
    )


async def test_a_sample_fails_alone_whose_codes_the_prior_makes_up(served: RunningServer) -> None:
    firsts = range(0, 30, 3)
    calls = [
        served.generation.Sample(pb.SampleRequest(model=REF, seed=7, first_index=first, count=3, output=FLOAT32))
        for first in firsts
    ]
    endings = await asyncio.gather(*calls, return_exceptions=True)
    wrong = [bool(strays(first).any()) for first in firsts]
    assert any(wrong)
    assert not all(wrong)
    for first, ending in zip(firsts, endings, strict=True):
        if strays(first).any():
            assert isinstance(ending, grpc.aio.AioRpcError)
            assert told(ending, "prior", int(strays(first).argmax()))
        else:
            assert isinstance(ending, pb.SampleResponse)
            expected = MODEL.images(MODEL.embedded(MODEL.from_noise(NoiseSource().draw(7, first, 3, 2, 0))))
            np.testing.assert_allclose(to_ndarray(ending.images.tensor), expected, atol=1e-5)


@pytest.mark.parametrize("call", ["Reconstruct", "Score"])
async def test_an_image_fails_alone_whose_codes_the_encoder_makes_up(served: RunningServer, call: str) -> None:
    images = [pb.Images(tensor=from_ndarray(pictures(white))) for white in ((), (WHITE,), (), (1, WHITE))]
    request = getattr(pb, f"{call}Request")
    calls = [getattr(served.generation, call)(request(model=REF, images=each)) for each in images]
    right, wrong, also_right, also_wrong = await asyncio.gather(*calls, return_exceptions=True)
    assert told(wrong, "encoder", WHITE)
    assert told(also_wrong, "encoder", 1)
    alone = await getattr(served.generation, call)(request(model=REF, images=images[0]))
    np.testing.assert_array_equal(right.reconstruction_error, alone.reconstruction_error)
    np.testing.assert_array_equal(also_right.reconstruction_error, alone.reconstruction_error)


async def test_an_image_fails_alone_in_runs_through_buffers(tmp_path: Path) -> None:
    stray(MODEL.write(tmp_path / "vq"), "encoder", "image", 0.9999, 6)
    async with loaded(tmp_path / "vq", max_batch_rows=8, pad=True, bound=True) as model:
        images = [pictures(white).astype(np.float32) / 255 for white in ((), (WHITE,))]
        calls = [model.reconstruct(each, ReconstructRequest()) for each in images]
        right, wrong = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(wrong, EngineFailure)
    assert not isinstance(right, BaseException)
    expected = MODEL.images(MODEL.embedded(MODEL.nearest_codes(MODEL.posterior(images[0])[0])))
    np.testing.assert_allclose(right.images, expected, atol=1e-5)


async def test_codes_beyond_the_book_are_given_to_nobody(served: RunningServer) -> None:
    encode = pb.EncodeRequest(model=REF, images=pb.Images(tensor=from_ndarray(pictures([WHITE]))))
    assert told(await refusal(served.generation.Encode(encode)), "encoder", WHITE)
    pixels = pictures([WHITE]).astype(np.float32) / 255
    for name in ("vq.encoder", "vq.reconstruct"):
        error = await refusal(stub_of(served).ModelInfer(infer_request(name, "image", pixels)))
        assert told(error, "encoder", WHITE)
