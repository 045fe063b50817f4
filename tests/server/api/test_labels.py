"""A conditional model: every call takes labels, every row has its own, and what is missing or wrong is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_graph import BACKSTOP_SECONDS
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from refusal import invalid, invalid_field
from running_server import RunningServer, running_server
from tested_device import assert_agree, tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.labels import Labels
from latentserve_server.latent.noise import NoiseSource, Stream

LABELLED = TinyModel(labels=4, seed=8)
NAMED = pb.ModelRef(name="labelled")
LATENTS = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)
PIXELS = LABELLED.random_images(6)
EACH = [3, 0, 1, 1, 2, 0]
SOME_TURNS = 50_000


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server over "labelled" and the ordinary "vae"; at most 32 rows a call, 8 a batch."""
    LABELLED.write(tmp_path / "labelled" / "1")
    TinyModel(labels=2, kind="gan", seed=1).write(tmp_path / "gan" / "1")
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_rows_per_request=32, max_batch_rows=8) as server:
        yield server


def pictures() -> pb.Images:
    return pb.Images(tensor=from_ndarray(PIXELS))


def pixels(images: pb.Images) -> NDArray[Any]:
    return to_ndarray(images.tensor)


@given(
    known=st.integers(2, 9),
    given_labels=st.lists(st.integers(0, 8), max_size=7),
    first=st.integers(0, 2**48 - 20),
    count=st.integers(1, 20),
)
def test_an_index_gets_the_labels_in_turn(known: int, given_labels: list[int], first: int, count: int) -> None:
    values = tuple(label % known for label in given_labels)
    turn = values or tuple(range(known))
    drawn = Labels(values, known).of_indices(first, count)
    assert drawn is not None
    assert drawn.tolist() == [turn[index % len(turn)] for index in range(first, first + count)]


@pytest.mark.parametrize(("labels", "turn"), [([], [0, 1, 2, 3]), ([2], [2]), ([3, 1, 1], [3, 1, 1])])
async def test_sample_gives_index_i_its_label_and_says_it(
    served: RunningServer, labels: list[int], turn: list[int]
) -> None:
    request = pb.SampleRequest(model=NAMED, count=20, seed=4, first_index=5, labels=labels)
    reply = await served.generation.Sample(request)
    expected = [turn[index % len(turn)] for index in range(5, 25)]
    assert list(reply.labels) == expected
    noise = NoiseSource().draw(4, 5, 20, 3, Stream.PRIOR)
    np.testing.assert_allclose(pixels(reply.images), LABELLED.images(noise, np.array(expected)), atol=tolerance(1e-6))
    asked = pb.StreamSamplesRequest(model=NAMED, count=20, seed=4, first_index=5, labels=labels, chunk_rows=7)
    chunks = [chunk async for chunk in served.generation.StreamSamples(asked)]
    assert [label for chunk in chunks for label in chunk.labels] == expected
    assert_agree(np.concatenate([pixels(chunk.images) for chunk in chunks]), pixels(reply.images))


async def test_an_ordinary_model_says_no_labels(served: RunningServer) -> None:
    reply = await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=3))
    assert not reply.labels


async def test_a_conditional_generator_samples(served: RunningServer) -> None:
    gan = TinyModel(labels=2, kind="gan", seed=1)
    reply = await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="gan"), count=5, seed=2))
    noise = NoiseSource().draw(2, 0, 5, 3, Stream.PRIOR)
    np.testing.assert_allclose(pixels(reply.images), gan.images(noise, np.array([0, 1, 0, 1, 0])), atol=tolerance(1e-6))


@pytest.mark.parametrize("labels", [[2], EACH])
async def test_decode_takes_one_label_or_one_each(served: RunningServer, labels: list[int]) -> None:
    reply = await served.generation.Decode(pb.DecodeRequest(model=NAMED, latents=from_ndarray(LATENTS), labels=labels))
    each = np.broadcast_to(labels, 6)
    np.testing.assert_allclose(pixels(reply.images), LABELLED.images(LATENTS, each), atol=tolerance(1e-6))


async def test_encode_and_reconstruct_use_the_labels_in_both_graphs(served: RunningServer) -> None:
    mean, _ = LABELLED.posterior(PIXELS / 255, np.array(EACH))
    encoded = await served.generation.Encode(pb.EncodeRequest(model=NAMED, images=pictures(), labels=EACH))
    np.testing.assert_allclose(to_ndarray(encoded.mean), mean, atol=tolerance(1e-5))
    reply = await served.generation.Reconstruct(pb.ReconstructRequest(model=NAMED, images=pictures(), labels=EACH))
    np.testing.assert_allclose(pixels(reply.images), LABELLED.images(mean, np.array(EACH)), atol=tolerance(1e-5))


@pytest.mark.parametrize("draws", [0, 3])
async def test_a_score_is_that_of_each_image_alone_with_its_label(served: RunningServer, draws: int) -> None:
    async def score(images: pb.Images, labels: list[int], first: int) -> pb.ScoreResponse:
        request = pb.ScoreRequest(model=NAMED, images=images, labels=labels, draws=draws, first_index=first)
        return await served.generation.Score(request)

    together = await score(pictures(), EACH, 0)
    for row, label in enumerate(EACH):
        alone = await score(pb.Images(tensor=from_ndarray(PIXELS[row : row + 1])), [label], row)
        assert_agree(alone.elbo[0], together.elbo[row])
        other = await score(pb.Images(tensor=from_ndarray(PIXELS[row : row + 1])), [3 - label], row)
        assert other.elbo[0] != together.elbo[row]


@pytest.mark.parametrize("labels", [[2], [3, 0]])
async def test_interpolate_keeps_a_pairs_label_all_the_way(served: RunningServer, labels: list[int]) -> None:
    request = pb.InterpolateRequest(
        model=NAMED,
        to=pb.Points(latents=from_ndarray(LATENTS[2:4])),
        steps=5,
        labels=labels,
        **{"from": pb.Points(images=pb.Images(tensor=from_ndarray(PIXELS[:2])))},
    )
    reply = await served.generation.Interpolate(request)
    latents, each = to_ndarray(reply.latents), np.broadcast_to(labels, 2)
    mean, _ = LABELLED.posterior(PIXELS[:2] / 255, each)
    np.testing.assert_allclose(latents[[0, 5]], mean, atol=tolerance(1e-5))
    np.testing.assert_allclose(pixels(reply.images), LABELLED.images(latents, np.repeat(each, 5)), atol=tolerance(1e-6))


async def test_traverse_has_one_label_for_all(served: RunningServer) -> None:
    origin = pb.Points(images=pb.Images(tensor=from_ndarray(PIXELS[:1])))
    request = pb.TraverseRequest(
        model=NAMED, axes=[pb.Axis(dimension=0, low=-1, high=1, steps=5)], labels=[2], origin=origin
    )
    reply = await served.generation.Traverse(request)
    latents = to_ndarray(reply.latents)
    np.testing.assert_allclose(pixels(reply.images), LABELLED.images(latents, np.full(5, 2)), atol=tolerance(1e-6))


async def test_rows_of_different_labels_share_batches_and_keep_their_own(tmp_path: Path) -> None:
    TinyModel(labels=4, seed=8, slow=True).write(tmp_path / "labelled" / "1")
    busy = np.array([[SOME_TURNS, 0, 0]], np.float32)

    async def decode(latents: NDArray[np.float32], label: int) -> pb.DecodeResponse:
        request = pb.DecodeRequest(model=NAMED, latents=from_ndarray(latents), labels=[label])
        return await served.generation.Decode(request)

    async with running_server(tmp_path, max_batch_rows=8, metrics_listen="127.0.0.1:0") as served:
        held = asyncio.create_task(decode(busy, 0))
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while not await served.metric("requests_in_flight") or await served.metric("queue_rows"):
                pass
        together = await asyncio.gather(*(decode(LATENTS[:2], number % 4) for number in range(12)))
        await held
        alone = [pixels((await decode(LATENTS[:2], label)).images) for label in range(4)]
    assert max(reply.served.timing.batch_rows for reply in together) > 2, "those that waited shared batches"
    for number, reply in enumerate(together):
        np.testing.assert_allclose(pixels(reply.images), alone[number % 4], rtol=0, atol=tolerance(1e-6))
    assert np.abs(alone[0] - alone[1]).max() > 0.01


AXIS = pb.Axis(dimension=0, low=-1, high=1, steps=3)
TO = pb.Points(latents=from_ndarray(LATENTS))
CALLS: dict[str, dict[str, Any]] = {
    "Encode": {"images": pictures()},
    "Decode": {"latents": from_ndarray(LATENTS)},
    "Reconstruct": {"images": pictures()},
    "Interpolate": {"from": TO, "to": TO, "steps": 3},
    "Traverse": {"axes": [AXIS]},
    "Score": {"images": pictures()},
}
SAMPLING: dict[str, dict[str, Any]] = {"Sample": {"count": 3}, "StreamSamples": {"count": 3}}


async def refused_field(served: RunningServer, method: str, **fields: Any) -> str:
    call = getattr(served.generation, method)(getattr(pb, f"{method}Request")(**fields))
    return await invalid_field(call.read() if method == "StreamSamples" else call)


REFUSED: list[tuple[str, list[int], str]] = [
    ("labelled", [], "labels: none; the model has 4 labels: give one, or one for each row"),
    ("labelled", [1, 2], "labels: 2 labels for 6 rows; give one, or one for each"),
    ("labelled", [1, 4, 2**32 - 1], "labels[1]: 4; 0 to 3 are allowed"),
    ("labelled", [2**32 - 1], "labels[0]: 4294967295; 0 to 3 are allowed"),
    ("labelled", [9] * 65_537, "labels: 65537 elements; at most 65536 are allowed"),
    ("vae", [0], "labels: the model has no labels; give none"),
]


@pytest.mark.parametrize(("model", "labels", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
async def test_labels_that_are_not_allowed_are_refused(
    served: RunningServer, model: str, labels: list[int], message: str
) -> None:
    request = pb.DecodeRequest(model=pb.ModelRef(name=model), latents=from_ndarray(LATENTS), labels=labels)
    assert await invalid(served.generation.Decode(request)) == message


@pytest.mark.parametrize("method", CALLS)
async def test_every_call_of_given_rows_wants_a_label_for_each(served: RunningServer, method: str) -> None:
    fields = CALLS[method]
    assert await refused_field(served, method, model=NAMED, **fields) == "labels"
    assert await refused_field(served, method, model=NAMED, labels=[1, 2], **fields) == "labels"


@pytest.mark.parametrize("method", [*CALLS, *SAMPLING])
async def test_every_call_takes_only_labels_that_the_model_knows(served: RunningServer, method: str) -> None:
    fields = (CALLS | SAMPLING)[method]
    unknown = await refused_field(served, method, model=NAMED, labels=[1, 4, 2**32 - 1], **fields)
    assert unknown == "labels[1]"
    assert await refused_field(served, method, model=NAMED, labels=[2**32 - 1], **fields) == "labels[0]"
    assert await refused_field(served, method, model=pb.ModelRef(name="vae"), labels=[0], **fields) == "labels"


@pytest.mark.parametrize("method", ["Sample", "StreamSamples", "Decode"])
async def test_more_labels_than_a_model_can_know_are_refused_unread(served: RunningServer, method: str) -> None:
    named = await refused_field(served, method, model=NAMED, labels=[9] * 65_537, **(CALLS | SAMPLING)[method])
    assert named == "labels"
