"""Interpolate, Traverse, Score, StreamSamples and shaped sampling, through a real server."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from refusal import invalid, invalid_field
from running_server import RunningServer, running_server
from tested_device import assert_agree, tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource, Stream

VAE, GAN, COLOUR = (pb.ModelRef(name=name) for name in ("vae", "gan", "colour"))


def seeds(*values: int) -> pb.Points:
    return pb.Points(seeds=pb.Seeds(seeds=values))


def latents(rows: Any) -> pb.Points:
    return pb.Points(latents=from_ndarray(np.asarray(rows, np.float32)))


def drawn(*values: int) -> np.ndarray:
    return np.concatenate([NoiseSource().draw(seed, 0, 1, 3, Stream.PRIOR) for seed in values])


def pixels(images: pb.Images) -> np.ndarray:
    return to_ndarray(images.tensor)


async def test_paths_between_seeds_are_decoded(served: RunningServer, vae: TinyModel) -> None:
    request = pb.InterpolateRequest(model=VAE, to=seeds(3, 4), steps=5)
    getattr(request, "from").CopyFrom(seeds(1, 2))
    reply = await served.generation.Interpolate(request)
    points = to_ndarray(reply.latents).reshape(2, 5, 3)
    np.testing.assert_allclose(points[:, 0], drawn(1, 2), atol=1e-6)
    np.testing.assert_allclose(points[:, 2], (drawn(1, 2) + drawn(3, 4)) / 2, atol=1e-6)
    np.testing.assert_allclose(pixels(reply.images), vae.images(points.reshape(10, 3)), atol=tolerance(1e-5))
    assert reply.served.timing.batch_rows >= 8


async def test_paths_between_images_go_through_their_posteriors(served: RunningServer, vae: TinyModel) -> None:
    a, b = vae.random_images(1, 1), vae.random_images(1, 2)
    request = pb.InterpolateRequest(model=VAE, steps=2, path=pb.PATH_SPHERICAL)
    getattr(request, "from").images.tensor.CopyFrom(from_ndarray(a))
    request.to.images.tensor.CopyFrom(from_ndarray(b))
    reply = await served.generation.Interpolate(request)
    means = vae.posterior(np.concatenate([a, b]) / 255)[0]
    np.testing.assert_allclose(to_ndarray(reply.latents), means, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 1}, "steps"),
        ({"steps": 100}, "pairs * steps"),
        ({"path": 9}, "path"),
        ({"to": seeds(1, 2)}, "to"),
        ({"to": pb.Points()}, "to"),
        ({"to": seeds()}, "to.seeds"),
        ({"to": latents([[1, 2]])}, "to.latents"),
        ({"to": latents([[1, 2, np.nan]])}, "to.latents"),
        ({"priority": 7}, "priority"),
        ({"output": pb.Output(format=pb.IMAGE_FORMAT_UINT8, grid_columns=2)}, "output.grid_columns"),
    ],
)
async def test_a_malformed_interpolation_names_its_field(
    served: RunningServer, change: dict[str, Any], field: str
) -> None:
    fields: dict[str, Any] = {"model": VAE, "from": seeds(1), "to": seeds(2), "steps": 3}
    assert await invalid_field(served.generation.Interpolate(pb.InterpolateRequest(**(fields | change)))) == field


async def test_a_plane_is_decoded_around_its_origin(served: RunningServer, vae: TinyModel) -> None:
    axes = [pb.Axis(dimension=0, low=-1, high=1, steps=2), pb.Axis(dimension=2, low=0, high=1, steps=3)]
    reply = await served.generation.Traverse(pb.TraverseRequest(model=VAE, origin=latents([[7, 5, 7]]), axes=axes))
    points = to_ndarray(reply.latents)
    assert points.tolist() == [[x, 5, y] for x in (-1, 1) for y in (0, 0.5, 1)]
    np.testing.assert_allclose(pixels(reply.images), vae.images(points), atol=tolerance(1e-5))


@pytest.mark.parametrize(
    ("axes", "field"),
    [
        ([], "axes"),
        ([pb.Axis(dimension=3, low=0, high=1, steps=2)], "axes[0].dimension"),
        ([pb.Axis(dimension=0, low=0, high=1, steps=1)], "axes[0].steps"),
        ([pb.Axis(dimension=0, low=0, high=np.inf, steps=2)], "axes[0]"),
        ([pb.Axis(dimension=1, low=0, high=1, steps=2)] * 2, "axes"),
        ([pb.Axis(dimension=1, low=0, high=1, steps=4_000_000_000)], "the product of axes.steps"),
    ],
)
async def test_a_malformed_traversal_names_its_field(served: RunningServer, axes: list[pb.Axis], field: str) -> None:
    assert await invalid_field(served.generation.Traverse(pb.TraverseRequest(model=VAE, axes=axes))) == field


async def test_a_score_at_the_mean_is_the_reconstructions_own(served: RunningServer, vae: TinyModel) -> None:
    images = pb.Images(tensor=from_ndarray(vae.random_images(4)))
    reply = await served.generation.Score(pb.ScoreRequest(model=VAE, images=images))
    reconstructed = await served.generation.Reconstruct(pb.ReconstructRequest(model=VAE, images=images))
    assert_agree(list(reply.reconstruction_error), list(reconstructed.reconstruction_error))
    assert_agree(list(reply.kl), list(reconstructed.kl))
    np.testing.assert_allclose(reply.elbo, -np.add(reply.reconstruction_error, reply.kl), rtol=1e-6)
    assert not reply.importance_bound


async def test_scores_by_draws_are_deterministic_and_split_by_index(served: RunningServer, vae: TinyModel) -> None:
    images = vae.random_images(4)

    async def score(rows: slice, first_index: int) -> pb.ScoreResponse:
        tensor = from_ndarray(images[rows])
        request = pb.ScoreRequest(model=VAE, images=pb.Images(tensor=tensor), draws=8, first_index=first_index)
        return await served.generation.Score(request)

    whole, again, part = [await score(*where) for where in ((slice(4), 0), (slice(4), 0), (slice(2, 4), 2))]
    assert_agree(list(whole.importance_bound), list(again.importance_bound))
    assert_agree(list(whole.importance_bound[2:]), list(part.importance_bound))
    assert_agree(list(whole.reconstruction_error[2:]), list(part.reconstruction_error))


@pytest.mark.parametrize("draws", [0, 8])
async def test_a_map_says_where_the_error_comes_from(served: RunningServer, vae: TinyModel, draws: int) -> None:
    images = pb.Images(tensor=from_ndarray(vae.random_images(4)))
    plain = pb.ScoreRequest(model=VAE, images=images, draws=draws)
    reply = await served.generation.Score(pb.ScoreRequest(model=VAE, images=images, draws=draws, map=pb.Output()))
    nats = to_ndarray(reply.map.tensor)
    assert (nats.dtype, nats.shape) == (np.dtype(np.float32), (4, 1, 4, 5))
    np.testing.assert_allclose(nats.sum(axis=(1, 2, 3)), reply.reconstruction_error, rtol=1e-4)
    without = await served.generation.Score(plain)
    assert not without.HasField("map")
    assert_agree(list(without.reconstruction_error), list(reply.reconstruction_error))


async def test_a_map_is_at_hand_in_grey(served: RunningServer, vae: TinyModel) -> None:
    images = pb.Images(tensor=from_ndarray(vae.random_images(4)))

    async def map_as(form: pb.ImageFormat, columns: int = 0) -> pb.Images:
        output = pb.Output(format=form, grid_columns=columns)
        return (await served.generation.Score(pb.ScoreRequest(model=VAE, images=images, map=output))).map

    nats = to_ndarray((await map_as(pb.IMAGE_FORMAT_FLOAT32)).tensor).sum(axis=1).reshape(4, -1)
    grey = to_ndarray((await map_as(pb.IMAGE_FORMAT_UINT8)).tensor)
    assert (grey.dtype, grey.shape) == (np.dtype(np.uint8), (4, 1, 4, 5))
    assert [row.argmax() for row in grey.reshape(4, -1)] == [row.argmax() for row in nats]
    assert {(row.min(), row.max()) for row in grey.reshape(4, -1)} == {(0, 255)}
    files = (await map_as(pb.IMAGE_FORMAT_PNG)).encoded.files
    shown = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    np.testing.assert_allclose(shown, grey[:, 0].astype(float), atol=1)
    (grid,) = (await map_as(pb.IMAGE_FORMAT_PNG, 2)).encoded.files
    assert Image.open(io.BytesIO(grid)).size == (12, 10)


@pytest.mark.parametrize(
    ("output", "field"),
    [
        (pb.Output(format=9), "map.format"),
        (pb.Output(format=pb.IMAGE_FORMAT_PNG, bands=[0]), "map.bands"),
        (pb.Output(grid_columns=2), "map.grid_columns"),
    ],
)
async def test_a_map_that_cannot_be_made_names_its_field(
    served: RunningServer, vae: TinyModel, output: pb.Output, field: str
) -> None:
    images = pb.Images(tensor=from_ndarray(vae.random_images(1)))
    assert await invalid_field(served.generation.Score(pb.ScoreRequest(model=VAE, images=images, map=output))) == field


async def test_the_bound_is_tighter_with_more_draws(served: RunningServer, vae: TinyModel) -> None:
    images = pb.Images(tensor=from_ndarray(vae.random_images(1)))

    async def mean_bound(draws: int) -> float:
        requests = (pb.ScoreRequest(model=VAE, images=images, draws=draws, seed=seed) for seed in range(60))
        return float(np.mean([(await served.generation.Score(request)).importance_bound[0] for request in requests]))

    assert await mean_bound(1) < await mean_bound(16)


async def test_a_gan_has_no_score(served: RunningServer) -> None:
    images = pb.Images(tensor=from_ndarray(np.zeros((1, 3, 4, 5), np.uint8)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.generation.Score(pb.ScoreRequest(model=GAN, images=images))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def collect(served: RunningServer, **fields: Any) -> list[pb.StreamSamplesResponse]:
    request = pb.StreamSamplesRequest(model=VAE, **fields)
    return [chunk async for chunk in served.generation.StreamSamples(request)]


@pytest.mark.parametrize(("count", "chunk_rows"), [(1, 1), (10, 3), (32, 32), (50, 7), (64, 32)])
async def test_a_stream_is_the_samples_in_chunks(served: RunningServer, count: int, chunk_rows: int) -> None:
    chunks = await collect(served, count=count, seed=7, first_index=5, chunk_rows=chunk_rows)
    assert [chunk.first_index for chunk in chunks] == list(range(5, 5 + count, chunk_rows))
    streamed = np.concatenate([pixels(chunk.images) for chunk in chunks])
    sample = served.generation.Sample
    whole = [
        pixels((await sample(pb.SampleRequest(model=VAE, count=1, seed=7, first_index=5 + i))).images)
        for i in range(count)
    ]
    assert_agree(streamed, np.concatenate(whole))


async def test_a_stream_is_resumed_by_its_index(served: RunningServer) -> None:
    whole = await collect(served, count=30, seed=3, chunk_rows=10)
    rest = await collect(served, count=20, seed=3, first_index=10, chunk_rows=10)
    assert [chunk.images for chunk in whole[1:]] == [chunk.images for chunk in rest]


async def test_a_stream_without_a_seed_has_one_and_says_it(served: RunningServer) -> None:
    chunks = await collect(served, count=20, chunk_rows=10)
    assert len({chunk.seed for chunk in chunks}) == 1
    again = await collect(served, count=20, chunk_rows=10, seed=chunks[0].seed)
    assert [chunk.images for chunk in again] == [chunk.images for chunk in chunks]


async def test_a_stream_that_is_cancelled_stops_its_work(repository: Path) -> None:
    async with running_server(repository, metrics_listen="127.0.0.1:0") as served:
        call = served.generation.StreamSamples(pb.StreamSamplesRequest(model=VAE, count=2**40, seed=1, chunk_rows=8))
        assert (await call.read()).first_index == 0
        call.cancel()
        async with asyncio.timeout(30):
            while await served.metric("requests_in_flight", method="StreamSamples"):
                await served.generation.Sample(pb.SampleRequest(model=VAE, count=1))
        assert await served.metric("queue_rows") == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 1, "chunk_rows": 33}, "chunk_rows"),
        ({"count": 2**48, "first_index": 1}, "first_index"),
        ({"count": 1, "output": pb.Output(format=99)}, "output.format"),
        ({"count": 1, "shaping": pb.Shaping(temperature=-1)}, "shaping.temperature"),
    ],
)
async def test_a_malformed_stream_names_its_field(served: RunningServer, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(served, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(field)


async def test_temperature_scales_and_truncation_cuts_off(served: RunningServer, vae: TinyModel) -> None:
    async def sample(**shaping: float) -> np.ndarray:
        request = pb.SampleRequest(model=VAE, count=20, seed=7, shaping=pb.Shaping(**shaping))
        return pixels((await served.generation.Sample(request)).images)

    source = NoiseSource()
    noise = source.draw(7, 0, 20, 3, Stream.PRIOR)
    cut = source.truncate(noise, 7, 0, Stream.PRIOR, 0.75)
    np.testing.assert_allclose(await sample(temperature=0.5), vae.images(noise * 0.5), atol=tolerance(1e-5))
    np.testing.assert_allclose(await sample(truncation=0.75), vae.images(cut), atol=tolerance(1e-5))
    np.testing.assert_allclose(await sample(truncation=0.75, temperature=2), vae.images(cut * 2), atol=tolerance(1e-5))
    alike = await sample(temperature=0)
    assert_agree(alike, np.broadcast_to(alike[0], alike.shape))


@pytest.mark.parametrize("value", [-0.1, 4.1, float("nan"), float("inf")])
async def test_a_temperature_out_of_bounds_is_refused(served: RunningServer, value: float) -> None:
    request = pb.SampleRequest(model=VAE, count=1, shaping=pb.Shaping(temperature=value))
    assert (await invalid(served.generation.Sample(request))).startswith("shaping.temperature")


@pytest.mark.parametrize(
    ("image_format", "name"),
    [(pb.IMAGE_FORMAT_PNG, "PNG"), (pb.IMAGE_FORMAT_WEBP, "WEBP"), (pb.IMAGE_FORMAT_JPEG, "JPEG")],
)
async def test_every_file_format_holds_the_image(served: RunningServer, image_format: Any, name: str) -> None:
    async def sample(wanted: Any) -> pb.Images:
        request = pb.SampleRequest(model=COLOUR, count=3, seed=7, output=pb.Output(format=wanted))
        return (await served.generation.Sample(request)).images

    exact = pixels(await sample(pb.IMAGE_FORMAT_UINT8))
    for data, expected in zip((await sample(image_format)).encoded.files, exact, strict=True):
        with Image.open(io.BytesIO(data)) as file:
            assert file.format == name
            error = np.abs(np.moveaxis(np.asarray(file, int), -1, 0) - expected)
        assert error.max() == 0 if name != "JPEG" else error.mean() < 12


async def test_float16_is_float32_rounded(served: RunningServer) -> None:
    async def sample(wanted: Any) -> np.ndarray:
        request = pb.SampleRequest(model=VAE, count=3, seed=7, output=pb.Output(format=wanted))
        return pixels((await served.generation.Sample(request)).images)

    half, whole = await sample(pb.IMAGE_FORMAT_FLOAT16), await sample(pb.IMAGE_FORMAT_FLOAT32)
    assert half.dtype == np.float16
    assert np.array_equal(half, whole.astype(np.float16))


async def test_a_grid_is_one_picture_row_by_row(served: RunningServer) -> None:
    async def sample(output: pb.Output) -> pb.Images:
        return (await served.generation.Sample(pb.SampleRequest(model=VAE, count=5, seed=7, output=output))).images

    exact = pixels(await sample(pb.Output(format=pb.IMAGE_FORMAT_UINT8)))
    (data,) = (await sample(pb.Output(format=pb.IMAGE_FORMAT_PNG, grid_columns=3))).encoded.files
    with Image.open(io.BytesIO(data)) as file:
        grid = np.asarray(file)
    assert grid.shape == (4 + 2 + 4, 3 * 5 + 2 * 2)
    for i in range(5):
        top, left = (i // 3) * 6, (i % 3) * 7
        assert np.array_equal(grid[top : top + 4, left : left + 5], exact[i, 0])
    assert not grid[6:, 14:].any()


def png(width: int, height: int, mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


async def test_files_of_another_size_are_resized_where_that_is_asked(served: RunningServer, vae: TinyModel) -> None:
    file = io.BytesIO()
    Image.fromarray(np.kron(vae.random_images(1)[0, 0], np.ones((8, 8), np.uint8))).save(file, "PNG")
    images = pb.Images(encoded=pb.EncodedImages(files=[file.getvalue()], resize=True))
    reply = await served.generation.Encode(pb.EncodeRequest(model=VAE, images=images))
    assert to_ndarray(reply.mean).shape == (1, 3)
    images.encoded.resize = False
    field = await invalid_field(served.generation.Encode(pb.EncodeRequest(model=VAE, images=images)))
    assert field == "images.encoded.files[0]"


@pytest.mark.parametrize("size", [(9_000, 8_000), (10_000, 10_000), (20_000, 20_000)])
async def test_a_huge_file_is_refused_before_it_is_unpacked(served: RunningServer, size: tuple[int, int]) -> None:
    images = pb.Images(encoded=pb.EncodedImages(files=[png(*size, "1")], resize=True))
    field = await invalid_field(served.generation.Encode(pb.EncodeRequest(model=VAE, images=images)))
    assert field == "images.encoded.files[0]"


async def test_padded_batches_answer_the_same(tmp_path: Path, vae: TinyModel) -> None:
    vae.write(tmp_path / "vae" / "1")
    request = pb.SampleRequest(model=VAE, count=11, seed=7)
    replies = []
    for padding in ("always", "never"):
        async with running_server(
            tmp_path, pad_batches=padding, max_batch_rows=8, metrics_listen="127.0.0.1:0"
        ) as served:
            replies.append(pixels((await served.generation.Sample(request)).images))
            assert (await served.metric("padding_rows_total", model="vae") > 0) == (padding == "always")
    assert_agree(*replies)
