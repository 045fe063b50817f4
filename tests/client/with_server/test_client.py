"""Calls about models, noise, images and latents, by both clients, against a real server."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from client.served_linear import LATENT, MAX_ROWS, MODELS, SHAPE, noise, pictures, to_uint8
from model_shelf import BROKEN
from numpy.typing import NDArray
from PIL import Image

from latentserve_client import (
    AsyncClient,
    Capability,
    Client,
    FormatError,
    InvalidArgumentError,
    ModelRef,
    ModelState,
    NotFoundError,
)

Invoke = Callable[..., Awaitable[Any]]


def file_of(pixels: NDArray[np.uint8]) -> bytes:
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file := io.BytesIO(), format="PNG")
    return file.getvalue()


async def test_models_are_listed_with_their_state(invoke: Invoke) -> None:
    first, second, broken = await invoke("models")
    assert (first.name, first.version, first.state, first.aliases) == ("linear", 1, ModelState.READY, ("stable",))
    assert (second.version, second.is_default, first.is_default) == (2, True, False)
    assert second.capabilities == tuple(Capability)[:5]
    assert (broken.state, broken.reason, broken.capabilities) == (ModelState.UNAVAILABLE, BROKEN, ())


@pytest.mark.parametrize(
    ("args", "version"),
    [
        (("linear",), 2),
        (("linear:1",), 1),
        (("linear@stable",), 1),
        (("linear", 1), 1),
        (("linear", None, "stable"), 1),
        ((ModelRef("linear", version=2),), 2),
    ],
)
async def test_a_model_is_described(invoke: Invoke, args: tuple[Any, ...], version: int) -> None:
    info = await invoke("model", *args)
    assert (info.name, info.version, info.kind, info.device) == ("linear", version, "vae", "cpu")
    assert info.precision == "float32"
    assert (info.latent_dim, info.image_shape, info.value_range) == (LATENT, SHAPE, (0.0, 1.0))
    assert (info.limits.max_rows_per_request, info.limits.max_message_bytes) == (MAX_ROWS, 64 * 2**20)
    assert dict(info.manifest.metrics) == {"test_nats": 12.5}
    listed = (await invoke("models"))[version - 1]
    assert (info.row_bits, info.numerics, info.aliases) == (listed.row_bits, listed.numerics, listed.aliases)


@pytest.mark.parametrize("version", MODELS)
async def test_a_result_names_the_fingerprint_of_its_bits(invoke: Invoke, version: int) -> None:
    info = await invoke("model", f"linear:{version}")
    assert (await invoke("sample", f"linear:{version}", 1)).served.numerics == info.numerics


async def test_a_server_explains_what_it_refuses(invoke: Invoke) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        await invoke("sample", "nobody", 1)
    with pytest.raises(InvalidArgumentError, match="count"):
        await invoke("sample", "linear", MAX_ROWS + 1)


@pytest.mark.parametrize("version", MODELS)
async def test_samples_are_decoded_noise(invoke: Invoke, version: int) -> None:
    samples = await invoke("sample", f"linear:{version}", 4, seed=7, first_index=2)
    assert (samples.images.dtype, samples.images.shape) == (np.float32, (4, *SHAPE))
    np.testing.assert_allclose(samples.images, MODELS[version].images(noise(7, 2, 4)), atol=1e-5)


async def test_samples_come_in_every_format(invoke: Invoke) -> None:
    floats = (await invoke("sample", "linear", 4, seed=7)).images
    quantised = (await invoke("sample", "linear", 4, seed=7, format="uint8")).images
    files = (await invoke("sample", "linear", 4, seed=7, format="png")).files
    np.testing.assert_allclose(quantised, to_uint8(floats), atol=1)
    decoded = [np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1) for file in files]
    np.testing.assert_array_equal(decoded, quantised)


async def test_first_index_moves_along_the_seed(invoke: Invoke) -> None:
    whole = await invoke("sample", "linear", 8, seed=2**64 - 1)
    part = await invoke("sample", "linear", 3, seed=2**64 - 1, first_index=5)
    np.testing.assert_allclose(part.images, whole.images[5:], atol=1e-6)
    assert (part.first_index, part.seed) == (5, 2**64 - 1)
    assert part.noise_scheme == (await invoke("model", "linear")).noise_scheme


async def test_a_sample_says_the_seed_it_drew(invoke: Invoke) -> None:
    first, second = await invoke("sample", "linear", 2), await invoke("sample", "linear", 2)
    assert first.seed != second.seed
    again = await invoke("sample", "linear", 2, seed=first.seed)
    np.testing.assert_array_equal(again.images, first.images)


async def test_a_result_says_who_served_it_and_when(invoke: Invoke) -> None:
    served = (await invoke("sample", "linear@stable", 3)).served
    assert (served.model, served.version, served.timing.batch_rows) == ("linear", 1, 3)
    assert 0 < served.timing.queue_ns + served.timing.compute_ns <= served.timing.total_ns


async def test_arrays_and_files_encode_alike(invoke: Invoke) -> None:
    pixels = pictures(3)
    by_array = await invoke("encode", "linear", pixels)
    by_float = await invoke("encode", "linear", pixels / 255)
    by_file = await invoke("encode", "linear", [file_of(image) for image in pixels])
    assert by_array.mean.dtype == by_array.log_variance.dtype == np.float32
    mean, log_variance = MODELS[2].posterior(pixels / 255)
    for found in (by_array, by_float, by_file):
        np.testing.assert_allclose(found.mean, mean, atol=1e-5)
        np.testing.assert_allclose(found.log_variance, log_variance, atol=1e-5)
    assert (by_array.z, by_array.seed, by_array.noise_scheme) == (None, None, None)


@pytest.mark.parametrize("layout", [lambda x: x.astype(">f4"), np.asfortranarray, lambda x: x[::-1].copy()[::-1]])
async def test_the_memory_layout_does_not_matter(
    invoke: Invoke, layout: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    images = pictures(2).astype(np.float32) / 255
    plain, odd = await invoke("encode", "linear", images), await invoke("encode", "linear", layout(images))
    np.testing.assert_array_equal(odd.mean, plain.mean)


async def test_draws_move_along_the_seed(invoke: Invoke) -> None:
    images = np.repeat(pictures(1), 4, axis=0)
    whole = await invoke("encode", "linear", images, draw_seed=11)
    mean, log_variance = MODELS[2].posterior(images / 255)
    expected = mean + np.exp(log_variance / 2) * noise(11, 0, 4, stream=1)
    assert (whole.seed, whole.z.dtype) == (11, np.float32)
    np.testing.assert_allclose(whole.z, expected, atol=1e-5)
    part = await invoke("encode", "linear", images[:2], draw_seed=11, first_index=2)
    np.testing.assert_allclose(part.z, expected[2:], atol=1e-5)


async def test_reconstructing_is_decoding_the_means(invoke: Invoke) -> None:
    images = pictures(3)
    posterior = await invoke("encode", "linear", images)
    decoded = await invoke("decode", "linear", posterior.mean.astype(np.float64))
    result = await invoke("reconstruct", "linear", images)
    np.testing.assert_allclose(decoded.images, MODELS[2].images(posterior.mean), atol=1e-5)
    np.testing.assert_allclose(result.images, decoded.images, atol=1e-6)
    x, p = images / 255, result.images.astype(np.float64)
    error = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(result.reconstruction_error, error, rtol=1e-5)
    mean, log_variance = MODELS[2].posterior(images / 255)
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1)
    np.testing.assert_allclose(result.kl, kl, rtol=1e-4)
    assert result.reconstruction_error.dtype == result.kl.dtype == np.float32


async def test_both_clients_return_the_same(target: str) -> None:
    with Client(target) as client:
        blocking = client.reconstruct("linear", pictures(4), format="uint8")
    async with AsyncClient(target) as client_:
        awaited = await client_.reconstruct("linear", pictures(4), format="uint8")
    np.testing.assert_array_equal(blocking.images, awaited.images)
    np.testing.assert_array_equal(blocking.kl, awaited.kl)


async def test_images_are_an_array_or_files_as_was_asked_for(invoke: Invoke) -> None:
    array = await invoke("decode", "linear", np.zeros((1, LATENT)))
    with pytest.raises(FormatError) as caught:
        _ = array.files
    assert str(caught.value) == 'the images came as an array; read images, or ask for format="png", "jpeg" or "webp"'
    files = await invoke("decode", "linear", np.zeros((1, LATENT)), format="png")
    with pytest.raises(FormatError) as caught:
        _ = files.images
    formats = '"float32", "float16" or "uint8"'
    assert str(caught.value) == f"the images came as files; read files, or ask for format={formats}"
    assert not hasattr(array, "files")
