"""Every call, by both clients, against a real server."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentserve_client import (
    AsyncClient,
    Capability,
    Client,
    Decoded,
    FormatError,
    ModelRef,
    ModelState,
    ModelStatus,
    RequestError,
    Samples,
    Timing,
)

Invoke = Callable[..., Awaitable[Any]]


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 4, 6), np.uint8)


def file_of(pixels: NDArray[np.uint8]) -> bytes:
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file := io.BytesIO(), format="PNG")
    return file.getvalue()


async def test_models_are_listed_with_their_state(invoke: Invoke) -> None:
    first, second, broken = await invoke("models")
    assert (first.name, first.version, first.state, first.aliases) == ("linear", 1, ModelState.READY, ("stable",))
    assert (second.version, second.is_default, first.is_default) == (2, True, False)
    assert second.capabilities == tuple(Capability)[:5]
    assert (first.row_bits, first.numerics) == ("batch_invariant", "00c0ffee00c0ffee")
    assert (second.row_bits, second.numerics) == ("batch_dependent", "")
    assert (broken.state, broken.reason, broken.capabilities) == (
        ModelState.UNAVAILABLE,
        "wrong\ndigest",
        (),
    )


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
    assert info.precision == ("int8" if version == 1 else "float32")
    assert info.row_bits == ("batch_invariant" if version == 1 else "batch_dependent")
    assert info.numerics == ("00c0ffee00c0ffee" if version == 1 else "")
    assert (info.latent_dim, info.image_shape, info.value_range) == (5, (3, 4, 6), (0.0, 1.0))
    assert (info.limits.max_rows_per_request, info.limits.max_message_bytes) == (8, 64 * 2**20)
    assert dict(info.manifest.metrics) == {"test_nats": 12.5}


@pytest.mark.parametrize("version", [1, 2])
async def test_a_result_names_the_fingerprint_of_its_bits(invoke: Invoke, version: int) -> None:
    info = await invoke("model", f"linear:{version}")
    assert (await invoke("sample", f"linear:{version}", 1)).served.numerics == info.numerics


async def test_a_version_is_said_once(invoke: Invoke) -> None:
    with pytest.raises(RequestError, match="'linear:1' already says which version"):
        await invoke("model", "linear:1", 2)


async def test_samples_come_in_every_format(invoke: Invoke) -> None:
    floats = (await invoke("sample", "linear", 4, seed=7)).images
    quantised = (await invoke("sample", "linear", 4, seed=7, format="uint8")).images
    files = (await invoke("sample", "linear", 4, seed=7, format="png")).files
    assert (floats.dtype, floats.shape) == (np.float32, (4, 3, 4, 6))
    assert 0 < floats.min() < floats.max() < 1
    np.testing.assert_array_equal(quantised, np.rint(floats * 255).astype(np.uint8))
    decoded = [np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1) for file in files]
    np.testing.assert_array_equal(decoded, quantised)


async def test_first_index_moves_along_the_seed(invoke: Invoke) -> None:
    whole = await invoke("sample", "linear", 8, seed=2**64 - 1)
    part = await invoke("sample", "linear", 3, seed=2**64 - 1, first_index=5)
    np.testing.assert_array_equal(part.images, whole.images[5:])
    assert (part.first_index, part.seed, part.noise_scheme) == (5, 2**64 - 1, "rows/1")


async def test_a_sample_says_the_seed_it_drew(invoke: Invoke) -> None:
    first, second = await invoke("sample", "linear", 2), await invoke("sample", "linear", 2)
    assert first.seed != second.seed
    assert max(first.seed, second.seed) < 2**53  # which every language keeps
    again = await invoke("sample", "linear", 2, seed=first.seed)
    np.testing.assert_array_equal(again.images, first.images)


async def test_a_result_says_who_served_it(invoke: Invoke, attempts: list[tuple[str, str, Any]]) -> None:
    served = (await invoke("sample", "linear@stable", 1)).served
    assert (served.model, served.version) == ("linear", 1)
    assert served.timing == Timing(queue_ns=1_000, compute_ns=2_000, total_ns=4_000, batch_rows=16)
    ((method, request_id, _),) = attempts
    assert (method, request_id) == ("Sample", served.request_id)
    assert len(served.request_id) == 32


async def test_arrays_and_files_encode_alike(invoke: Invoke) -> None:
    pixels = pictures(3)
    by_array = await invoke("encode", "linear", pixels)
    by_float = await invoke("encode", "linear", pixels / 255)
    by_file = await invoke("encode", "linear", [file_of(image) for image in pixels])
    assert by_array.mean.dtype == by_array.log_variance.dtype == np.float32
    np.testing.assert_allclose(by_array.mean, pixels.reshape(3, -1)[:, :5] / 255, rtol=1e-6)
    np.testing.assert_array_equal(by_file.mean, by_array.mean)
    np.testing.assert_allclose(by_float.mean, by_array.mean, rtol=1e-6)
    np.testing.assert_array_equal(by_array.log_variance, -by_array.mean)
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
    part = await invoke("encode", "linear", images[:2], draw_seed=11, first_index=2)
    assert (whole.seed, whole.noise_scheme, whole.z.shape) == (11, "rows/1", (4, 5))
    assert len(np.unique(whole.z, axis=0)) == 4
    np.testing.assert_array_equal(part.z, whole.z[2:])


async def test_reconstructing_is_decoding_the_means(invoke: Invoke) -> None:
    images = pictures(3)
    posterior = await invoke("encode", "linear", images)
    decoded = await invoke("decode", "linear", posterior.mean.astype(np.float64))
    result = await invoke("reconstruct", "linear", images)
    np.testing.assert_array_equal(result.images, decoded.images)
    x, p = images / 255, result.images.astype(np.float64)
    error = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(result.reconstruction_error, error, rtol=1e-5)
    assert result.reconstruction_error.dtype == result.kl.dtype == np.float32
    assert result.kl.shape == (3,)


async def test_both_clients_return_the_same(target: str) -> None:
    with Client(target) as client:
        blocking = client.reconstruct("linear", pictures(4), format="uint8")
    async with AsyncClient(target) as client_:
        awaited = await client_.reconstruct("linear", pictures(4), format="uint8")
    np.testing.assert_array_equal(blocking.images, awaited.images)
    np.testing.assert_array_equal(blocking.kl, awaited.kl)


async def test_images_are_an_array_or_files_as_was_asked_for(invoke: Invoke) -> None:
    array = await invoke("decode", "linear", np.zeros((1, 5)))
    with pytest.raises(FormatError, match="the images came as an array; read images"):
        _ = array.files
    files = await invoke("decode", "linear", np.zeros((1, 5)), format="png")
    with pytest.raises(FormatError, match="the images came as files; read files"):
        _ = files.images
    assert not hasattr(array, "files")


async def test_methods_have_the_types_of_their_results(target: str) -> None:
    with Client(target) as client:
        assert_type(client.sample("linear", 1), Samples)
        assert_type(client.sample("linear", 1, format="png").files, list[bytes])
        assert_type(client.models(), list[ModelStatus])
    async with AsyncClient(target) as client_:
        assert_type(await client_.decode("linear", np.zeros((1, 5))), Decoded)
