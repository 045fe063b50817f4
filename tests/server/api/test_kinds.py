"""Autoencoders and vector-quantised ones: what they answer, in the numbers of their weights, and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from model_kinds import KINDS, write_kinds
from numpy.typing import NDArray
from refusal import invalid, refusal
from running_server import RunningServer, running_server

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2
from latentserve_server.latent.likelihood import bernoulli_terms, gaussian_terms, sum_rows

SAMPLE, ENCODE, DECODE, RECONSTRUCT, SCORE = models_pb2.Capability.values()[1:]
PICTURES = KINDS["plain"].random_images(5)
PIXELS = (PICTURES / 255).astype(np.float32)
IMAGES = pb.Images(tensor=from_ndarray(PICTURES))
LATENTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
CODES = np.random.default_rng(0).integers(0, 6, (5, 4))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    async with running_server(repository, max_rows_per_request=32, max_batch_rows=8) as server:
        yield server


def named(name: str) -> pb.ModelRef:
    return pb.ModelRef(name=name)


def means(name: str) -> NDArray[Any]:
    return KINDS[name].posterior(PIXELS)[0]


async def missing(call: Awaitable[Any]) -> str:
    """What the FAILED_PRECONDITION says that a call ends with."""
    error = await refusal(call)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    return error.details() or ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", [ENCODE, DECODE, RECONSTRUCT, SCORE]),
        ("blind", [SAMPLE, ENCODE, DECODE, RECONSTRUCT]),
        ("mixed", [SAMPLE, ENCODE, DECODE, RECONSTRUCT, SCORE]),
        ("normal", [SAMPLE, ENCODE, DECODE, RECONSTRUCT, SCORE]),
        ("vq", [ENCODE, DECODE, RECONSTRUCT, SCORE]),
        ("drawn", [SAMPLE, ENCODE, DECODE, RECONSTRUCT]),
        ("flow", [SAMPLE, ENCODE, DECODE, RECONSTRUCT, SCORE]),
        ("mapped", [SAMPLE, DECODE]),
    ],
)
async def test_a_model_can_what_its_kind_and_its_bundle_give(
    served: RunningServer, name: str, expected: list[models_pb2.Capability]
) -> None:
    listed = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
    assert [list(one.capabilities) for one in listed if one.name == name] == [expected]
    model = (await served.models.GetModel(models_pb2.GetModelRequest(model=named(name)))).model
    assert list(model.capabilities) == expected
    assert model.row_bits == models_pb2.ROW_BITS_BATCH_INVARIANT
    assert len(model.numerics) == 16


async def test_an_autoencoder_encodes_to_its_latents_alone(served: RunningServer) -> None:
    reply = await served.generation.Encode(pb.EncodeRequest(model=named("plain"), images=IMAGES))
    np.testing.assert_allclose(to_ndarray(reply.mean), means("plain"), atol=1e-5)
    assert [field.name for field, _ in reply.ListFields()] == ["mean", "served"]


async def test_a_quantised_one_encodes_to_codes_alone(served: RunningServer) -> None:
    reply = await served.generation.Encode(pb.EncodeRequest(model=named("vq"), images=IMAGES))
    np.testing.assert_array_equal(to_ndarray(reply.codes), KINDS["vq"].nearest_codes(means("vq")), strict=True)
    assert [field.name for field, _ in reply.ListFields()] == ["served", "codes"]


@pytest.mark.parametrize(("name", "noun"), [("plain", "an autoencoder"), ("vq", "a vector-quantised autoencoder")])
async def test_nothing_is_drawn_from_points(served: RunningServer, name: str, noun: str) -> None:
    why = f"model {name!r} is {noun}: it has no posterior to draw from"
    encode = pb.EncodeRequest(model=named(name), images=IMAGES, draw=pb.Draw(seed=1))
    assert await missing(served.generation.Encode(encode)) == f"draw: {why}"
    score = pb.ScoreRequest(model=named(name), images=IMAGES, draws=2)
    assert await missing(served.generation.Score(score)) == f"draws: {why}"


async def test_codes_are_decoded(served: RunningServer) -> None:
    request = pb.DecodeRequest(model=named("vq"), latents=from_ndarray(CODES))
    images = to_ndarray((await served.generation.Decode(request)).images.tensor)
    np.testing.assert_allclose(images, KINDS["vq"].images(KINDS["vq"].embedded(CODES)), atol=1e-5)


def other(place: int, code: int) -> NDArray[np.int64]:
    codes = CODES.copy()
    codes[place, 1] = code
    return codes


@pytest.mark.parametrize(
    ("name", "latents", "message"),
    [
        ("vq", other(2, 6), "latents: row 2 holds code 6; 0 to 5 are allowed"),
        ("vq", other(4, -1), "latents: row 4 holds code -1; 0 to 5 are allowed"),
        ("vq", other(0, -(2**63)), f"latents: row 0 holds code {-(2**63)}; 0 to 5 are allowed"),
        ("vq", CODES[:, :3], "latents: int64 [5, 3] where int64 [n, 4] is wanted"),
        ("vq", CODES.astype(np.float32), "latents: float32 [5, 4] where int64 [n, 4] is wanted"),
        ("vq", CODES.astype(np.uint8), "latents: uint8 [5, 4] where int64 [n, 4] is wanted"),
        ("plain", LATENTS.astype(np.int64), "latents: int64 [4, 3] where float32 [n, 3] is wanted"),
        ("flow", LATENTS.astype(np.int64), "latents: int64 [4, 3] where float32 [n, 3] is wanted"),
    ],
)
async def test_latents_of_another_kind_are_refused(
    served: RunningServer, name: str, latents: NDArray[Any], message: str
) -> None:
    request = pb.DecodeRequest(model=named(name), latents=from_ndarray(latents))
    assert await invalid(served.generation.Decode(request)) == message


async def test_images_are_no_integers(served: RunningServer) -> None:
    images = pb.Images(tensor=from_ndarray(PICTURES.astype(np.int64)))
    message = "images.tensor: int64 [5, 1, 4, 5]; float32, float16 and uint8 are allowed"
    assert await invalid(served.generation.Encode(pb.EncodeRequest(model=named("vq"), images=images))) == message


def latents_of(name: str) -> NDArray[Any]:
    """The latents that images are decoded from again."""
    model = KINDS[name]
    return model.embedded(model.nearest_codes(means(name))) if model.codes else means(name)


def error_of(name: str) -> NDArray[np.float32]:
    model, latents = KINDS[name], latents_of(name)
    if model.likelihood == "gaussian":
        return sum_rows(gaussian_terms(PIXELS, model.images(latents), model.log_scale(latents)))
    return sum_rows(bernoulli_terms(PIXELS, model.logits(latents)))


@pytest.mark.parametrize("name", ["plain", "mixed", "vq", "blind", "drawn"])
async def test_reconstructions_cost_what_there_is_a_likelihood_for(served: RunningServer, name: str) -> None:
    reply = await served.generation.Reconstruct(pb.ReconstructRequest(model=named(name), images=IMAGES))
    expected = KINDS[name].images(latents_of(name))
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), expected, atol=1e-5)
    np.testing.assert_allclose(reply.reconstruction_error, error_of(name) if KINDS[name].likelihood else [], rtol=1e-4)
    assert not reply.kl


@pytest.mark.parametrize("name", ["plain", "mixed", "vq"])
async def test_a_score_is_the_reconstruction_error_alone(served: RunningServer, name: str) -> None:
    reply = await served.generation.Score(pb.ScoreRequest(model=named(name), images=IMAGES))
    np.testing.assert_allclose(reply.reconstruction_error, error_of(name), rtol=1e-4)
    assert [field.name for field, _ in reply.ListFields()] == ["reconstruction_error", "served"]


Calls = Callable[[RunningServer], Awaitable[Any]]


def sample(name: str, **fields: Any) -> Calls:
    return lambda served: served.generation.Sample(pb.SampleRequest(model=named(name), count=1, **fields))


def stream(name: str) -> Calls:
    return lambda served: anext(
        aiter(served.generation.StreamSamples(pb.StreamSamplesRequest(model=named(name), count=1)))
    )


def walk(name: str, points: pb.Points) -> Calls:
    request = pb.InterpolateRequest(model=named(name), to=points, steps=2)
    getattr(request, "from").CopyFrom(points)
    return lambda served: served.generation.Interpolate(request)


def traverse(name: str, origin: pb.Points | None = None) -> Calls:
    axes = [pb.Axis(low=-1, high=1, steps=3)]
    return lambda served: served.generation.Traverse(pb.TraverseRequest(model=named(name), origin=origin, axes=axes))


def score(name: str) -> Calls:
    return lambda served: served.generation.Score(pb.ScoreRequest(model=named(name), images=IMAGES))


SEED = pb.Points(seeds=pb.Seeds(seeds=[1]))
CANNOT = "an autoencoder without a prior and cannot sample: a mixture or a prior graph in its bundle would let it"
UNDRAWN = (
    "a vector-quantised autoencoder without a prior and cannot sample: a prior graph of its codes in its bundle would "
    "let it"
)
NO_WAY = "a vector-quantised autoencoder: there is no way between two codes"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (sample("plain"), f"model 'plain' is {CANNOT}"),
        (sample("plain", prior="PRIOR_GRAPH"), f"model 'plain' is {CANNOT}"),
        (sample("plain", shaping=pb.Shaping(temperature=0.5)), f"model 'plain' is {CANNOT}"),
        (stream("plain"), f"model 'plain' is {CANNOT}"),
        (walk("plain", SEED), f"model 'plain' is {CANNOT}"),
        (traverse("plain", SEED), f"model 'plain' is {CANNOT}"),
        (sample("vq"), f"model 'vq' is {UNDRAWN}"),
        (walk("drawn", SEED), f"model 'drawn' is {NO_WAY}"),
        (walk("vq", pb.Points(images=IMAGES)), f"model 'vq' is {NO_WAY}"),
        (traverse("vq"), f"model 'vq' is {NO_WAY}"),
        (score("blind"), "model 'blind' is an autoencoder without a likelihood and cannot score"),
        (score("mapped"), "model 'mapped' is a GAN and cannot score"),
        (sample("blind", prior="PRIOR_STANDARD_NORMAL"), "prior: the model's decoder was not made for N(0, I)"),
        (sample("mixed", prior="PRIOR_STANDARD_NORMAL"), "prior: the model's decoder was not made for N(0, I)"),
        (sample("drawn", prior="PRIOR_MIXTURE"), "prior: the model's bundle carries no mixture"),
        (sample("mixed", prior="PRIOR_GRAPH"), "prior: the model's bundle carries no prior graph"),
    ],
)
async def test_what_a_model_lacks_is_said(served: RunningServer, call: Calls, message: str) -> None:
    assert await missing(call(served)) == message


@pytest.mark.parametrize("name", ["plain", "mixed", "blind"])
async def test_an_origin_is_demanded_where_0_is_no_prior_s_mean(served: RunningServer, name: str) -> None:
    message = "origin: is not set; it is 0 only where N(0, I) is a prior of the model: give a point"
    assert await invalid(traverse(name)(served)) == message
    reply = await traverse(name, pb.Points(images=pb.Images(tensor=from_ndarray(PICTURES[:1]))))(served)
    np.testing.assert_allclose(to_ndarray(reply.latents)[:, 1:], np.tile(means(name)[0, 1:], (3, 1)), atol=1e-5)


@pytest.mark.parametrize("name", ["normal", "flow", "mapped"])
async def test_the_origin_is_0_where_that_is_a_prior_s_mean(served: RunningServer, name: str) -> None:
    reply = await traverse(name)(served)
    np.testing.assert_array_equal(to_ndarray(reply.latents), [[-1, 0, 0], [0, 0, 0], [1, 0, 0]])
