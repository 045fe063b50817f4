"""Latents of a model that gives them a shape: [n, *shape] in every reply, and that or [n, dim] in every request.

Beside it stands the same model without a shape, whose answers are those of rows of the same values.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from refusal import invalid
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2, tensor_pb2

SHAPE = (2, 3, 2)
MODEL = TinyModel(latent_dim=12, latent_shape=SHAPE, components=2)
PLAIN = TinyModel(latent_dim=12, components=2)
SHAPED, FLAT, DEEP = (pb.ModelRef(name=name) for name in ("shaped", "flat", "deep"))
ROWS = np.random.default_rng(5).standard_normal((5, 12)).astype(np.float32)
LATENTS = ROWS.reshape(5, *SHAPE)
WANTED = "float32 [n, 2, 3, 2] or [n, 12] is wanted"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    MODEL.write(root / "shaped" / "1")
    PLAIN.write(root / "flat" / "1")
    TinyModel(latent_dim=12, latent_shape=(1, 1, 2, 1, 3, 1, 2, 1)).write(root / "deep" / "1")
    return root


@pytest.fixture
async def served(shelf: Path) -> AsyncIterator[RunningServer]:
    async with running_server(shelf, max_rows_per_request=32, max_batch_rows=8) as server:
        yield server


def images(count: int) -> pb.Images:
    return pb.Images(tensor=from_ndarray(MODEL.random_images(count)))


def assert_shaped(ours: tensor_pb2.Tensor, plain: tensor_pb2.Tensor) -> None:
    """The same values, in the one reply as rows, in the other in the model's shape."""
    rows = to_ndarray(plain)
    np.testing.assert_array_equal(to_ndarray(ours), rows.reshape(len(rows), *SHAPE), strict=True)


def interpolation(ref: pb.ModelRef, **ends: Any) -> pb.InterpolateRequest:
    request = pb.InterpolateRequest(model=ref, to=ends["to"], steps=3, path=pb.PATH_SPHERICAL)
    getattr(request, "from").CopyFrom(ends["start"])
    return request


async def test_the_manifest_says_the_shape(served: RunningServer) -> None:
    model = (await served.models.GetModel(models_pb2.GetModelRequest(model=SHAPED))).model
    assert (list(model.manifest.latent.shape), model.manifest.latent.dim) == ([2, 3, 2], 12)


async def test_posteriors_and_draws_come_in_the_shape(served: RunningServer) -> None:
    ours, plain = [
        await served.generation.Encode(pb.EncodeRequest(model=ref, images=images(10), draw=pb.Draw(seed=3)))
        for ref in (SHAPED, FLAT)
    ]
    for name in ("mean", "log_variance", "z"):
        assert_shaped(getattr(ours, name), getattr(plain, name))


@pytest.mark.parametrize("latents", [ROWS, LATENTS], ids=["rows", "shaped"])
async def test_latents_go_in_in_either_form(served: RunningServer, latents: NDArray[np.float32]) -> None:
    reply = await served.generation.Decode(pb.DecodeRequest(model=SHAPED, latents=from_ndarray(latents)))
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), MODEL.images(ROWS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("latents", [ROWS, LATENTS], ids=["rows", "shaped"])
async def test_points_of_walks_go_in_in_either_form(served: RunningServer, latents: NDArray[np.float32]) -> None:
    start, rows = pb.Points(latents=from_ndarray(latents)), pb.Points(latents=from_ndarray(ROWS))
    ends = pb.Points(seeds=pb.Seeds(seeds=range(5)))
    ours = await served.generation.Interpolate(interpolation(SHAPED, start=start, to=ends))
    plain = await served.generation.Interpolate(interpolation(FLAT, start=rows, to=ends))
    assert_shaped(ours.latents, plain.latents)
    assert ours.images == plain.images


async def test_points_that_are_images_come_in_the_shape(served: RunningServer) -> None:
    ends = {"start": pb.Points(images=images(2)), "to": pb.Points(images=images(2))}
    ours, plain = [await served.generation.Interpolate(interpolation(ref, **ends)) for ref in (SHAPED, FLAT)]
    assert_shaped(ours.latents, plain.latents)


@pytest.mark.parametrize("origin", [ROWS[:1], LATENTS[:1], None], ids=["row", "shaped", "none"])
async def test_an_axis_is_a_place_in_the_row(served: RunningServer, origin: NDArray[np.float32] | None) -> None:
    point = None if origin is None else pb.Points(latents=from_ndarray(origin))
    axes = [pb.Axis(dimension=7, low=-1, high=2, steps=4)]
    reply = await served.generation.Traverse(pb.TraverseRequest(model=SHAPED, origin=point, axes=axes))
    expected = np.zeros((4, 12)) if origin is None else np.repeat(ROWS[:1], 4, axis=0)
    expected[:, 7] = -1, 0, 1, 2
    latents = to_ndarray(reply.latents)
    np.testing.assert_array_equal(latents, expected.reshape(4, *SHAPE))
    np.testing.assert_array_equal(latents[:, 1, 0, 1], [-1, 0, 1, 2])  # 7 = 1 x 6 + 0 x 2 + 1


@pytest.mark.parametrize("prior", ["PRIOR_STANDARD_NORMAL", "PRIOR_MIXTURE"])
async def test_samples_streams_reconstructions_and_scores_are_those_of_rows(served: RunningServer, prior: Any) -> None:
    stub, replies = served.generation, []
    for ref in (SHAPED, FLAT):
        request = pb.StreamSamplesRequest(model=ref, count=20, seed=7, prior=prior, chunk_rows=8)
        replies.append(
            (
                (await stub.Sample(pb.SampleRequest(model=ref, count=9, seed=7, prior=prior))).images,
                [chunk.images async for chunk in stub.StreamSamples(request)],
                (await stub.Reconstruct(pb.ReconstructRequest(model=ref, images=images(3)))).kl,
                (await stub.Score(pb.ScoreRequest(model=ref, images=images(3), draws=2))).importance_bound,
            )
        )
    ours, plain = replies
    assert ours == plain


async def test_a_shape_may_have_eight_sides(served: RunningServer) -> None:
    mean = to_ndarray((await served.generation.Encode(pb.EncodeRequest(model=DEEP, images=images(2)))).mean)
    assert mean.shape == (2, 1, 1, 2, 1, 3, 1, 2, 1)
    decoded = [
        (await served.generation.Decode(pb.DecodeRequest(model=DEEP, latents=from_ndarray(latents)))).images
        for latents in (mean, mean.reshape(2, 12))
    ]
    assert decoded[0] == decoded[1]


@pytest.mark.parametrize(
    ("latents", "problem"),
    [
        (ROWS[:, :11], f"float32 [5, 11] where {WANTED}"),
        (LATENTS.reshape(5, 3, 2, 2), f"float32 [5, 3, 2, 2] where {WANTED}"),
        (LATENTS.reshape(5, 2, 6), f"float32 [5, 2, 6] where {WANTED}"),
        (LATENTS[0, 0, 0, 0], f"float32 [] where {WANTED}"),
        (LATENTS.astype(np.uint8), f"uint8 [5, 2, 3, 2] where {WANTED}"),
        (np.where(np.arange(5).reshape(5, 1, 1, 1) == 3, np.nan, LATENTS), "row 3 holds a value that is not finite"),
        (LATENTS.reshape(1, 1, 1, 1, 1, 1, 5, 2, 3, 2), "shape has 10 axes; at most 9 are allowed"),
    ],
)
async def test_latents_of_another_shape_are_told_both(
    served: RunningServer, latents: NDArray[Any], problem: str
) -> None:
    request = pb.DecodeRequest(model=SHAPED, latents=from_ndarray(np.asarray(latents)))
    assert await invalid(served.generation.Decode(request)) == f"latents: {problem}"
    if latents.ndim and len(latents) == 5:
        ends = {"start": pb.Points(latents=request.latents), "to": pb.Points(seeds=pb.Seeds(seeds=range(5)))}
        call = served.generation.Interpolate(interpolation(SHAPED, **ends))
        assert await invalid(call) == f"from.latents: {problem}"
