"""What the client refuses before it sends anything, and replies that it does not believe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from latentserve_client import AdminClient, AsyncAdminClient, AsyncClient, Axis, ReplyError, RequestError, Seeds

Invoke = Callable[..., Awaitable[Any]]

IMAGES = np.zeros((2, 3, 4, 6), np.uint8)
LATENTS = np.zeros((2, 5), np.float32)
BEYOND = np.zeros((1, 3, 4, 6), np.float32)
BEYOND[0, 0, 0, 0] = 1.0000006
"""The first float32 that rounding does not account for."""


NAMED = (
    "is not letters, digits, '_', '.' and '-', beginning with neither '.' nor '-' "
    "(a model is written name, name:3 or name@alias)"
)
REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("sample", ("", 1), {}, f"model name '' {NAMED}"),
    ("sample", (None, 1), {}, "model is a NoneType; give its name or a ModelRef"),
    ("sample", ("linear", 0), {}, "count 0 is not from 1 to 4294967295"),
    ("sample", ("linear", 1.5), {}, "count is a float; give an integer"),
    ("sample", ("linear", 1), {"seed": -1}, "seed -1 is not from 0 to 18446744073709551615"),
    ("sample", ("linear", 1), {"seed": 2**64}, "seed 18446744073709551616 is not from 0 to 18446744073709551615"),
    (
        "sample",
        ("linear", 2),
        {"first_index": 2**48 - 1},
        "first_index 281474976710655 is not from 0 to 281474976710654",
    ),
    (
        "sample",
        ("linear", 1),
        {"format": "gif"},
        "format 'gif' is not one of float32, float16, uint8, png, jpeg, webp",
    ),
    (
        "sample",
        ("linear", 1),
        {"grid_columns": 2},
        "grid_columns asks for a picture; format 'float32' is none of png, jpeg, webp",
    ),
    ("sample", ("linear", 1), {"format": "png", "grid_columns": 0}, "grid_columns 0 is not from 1 to 4294967295"),
    ("sample", ("linear", 1), {"bands": [0]}, "bands are of pictures; format 'float32' is none of png, jpeg, webp"),
    ("decode", ("linear", LATENTS), {"format": "png", "bands": [0, 1]}, "bands has 2 channels; give 1, 3 or 4"),
    ("decode", ("linear", LATENTS), {"format": "png", "bands": []}, "bands has 0 channels; give 1, 3 or 4"),
    ("sample", ("linear", 1), {"format": "png", "bands": 2}, "bands is a int; give 1, 3 or 4 integers"),
    ("sample", ("linear", 1), {"format": "png", "bands": [0, 0, -1]}, "bands[2] -1 is not from 0 to 1023"),
    (
        "sample",
        ("linear", 1),
        {"format": "jpeg", "bands": [0, 1, 2, 0]},
        "bands has 4 channels and JPEG no alpha; give 1 or 3, or another format",
    ),
    ("sample", ("linear", 1), {"temperature": 4.1}, "temperature 4.1 is not from 0 to 4"),
    ("sample", ("linear", 1), {"temperature": "warm"}, "temperature is a str; give a number"),
    ("sample", ("linear", 1), {"truncation": float("nan")}, "truncation nan is not from 0.5 to 8"),
    ("sample", ("linear", 1), {"psi": float("inf")}, "psi inf is not finite"),
    ("sample", ("linear", 1), {"priority": "high"}, "priority 'high' is not one of interactive, bulk"),
    ("sample", ("linear", 1), {"prior": "flat"}, "prior 'flat' is not one of standard_normal, mixture, graph"),
    ("sample", ("linear", 1), {"labels": []}, "labels is empty; give at least one, or None"),
    ("sample", ("linear", 1), {"labels": 1.5}, "labels is a float; give an integer, or several"),
    ("sample", ("linear", 1), {"labels": [1, -1]}, "labels[1] -1 is not from 0 to 4294967295"),
    ("decode", ("linear", LATENTS), {"labels": ["a"]}, "labels[0] is a str; give an integer"),
    ("encode", ("linear", IMAGES), {"resize": True}, "resize is for image files; images is an array"),
    ("interpolate", ("linear", LATENTS, LATENTS[:1], 3), {}, "start has 2 points and end 1; give as many of each"),
    ("interpolate", ("linear", LATENTS, LATENTS, 1), {}, "steps 1 is not from 2 to 4294967295"),
    ("interpolate", ("linear", Seeds([]), LATENTS, 3), {}, "start has no seeds; give at least one"),
    ("interpolate", ("linear", LATENTS, Seeds([-1]), 3), {}, "end: seed -1 is not from 0 to 18446744073709551615"),
    (
        "interpolate",
        ("linear", np.zeros((2, *[1] * 9), np.float32), LATENTS, 3),
        {},
        "start has shape [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]; it takes [n, latent_dim] or [n, *latent_shape], "
        "none of them 0",
    ),
    (
        "interpolate",
        ("linear", 7, 8, 3),
        {},
        "start is a int; give latents [n, latent_dim] or [n, *latent_shape], Seeds or PosteriorMeans",
    ),
    ("traverse", ("linear", []), {}, "axes has 0 axes; give one or two"),
    ("traverse", ("linear", [Axis(0, -1, 1, 2)]), {"origin": Seeds([1, 2])}, "origin has 2 points; give one"),
    ("traverse", ("linear", [Axis(-1, -1, 1, 2)]), {}, "axes[0].dimension -1 is not from 0 to 4294967295"),
    ("traverse", ("linear", [Axis(0, float("inf"), 1, 2)]), {}, "axes[0].low inf is not finite"),
    ("traverse", ("linear", [Axis(0, -1, 1, 1)]), {}, "axes[0].steps 1 is not from 2 to 4294967295"),
    ("score", ("linear", IMAGES), {"map": "tiff"}, "map 'tiff' is not one of float32, float16, uint8, png, jpeg, webp"),
    ("score", ("linear", IMAGES), {"draws": -1}, "draws -1 is not from 0 to 4294967295"),
    (
        "score",
        ("linear", IMAGES),
        {"draws": 4, "first_index": 2**46},
        "first_index 70368744177664 is not from 0 to 70368744177662",
    ),
    (
        "encode",
        ("linear", IMAGES.astype(np.int64)),
        {},
        "images has dtype int64; it takes float32, float64, float16, uint8",
    ),
    ("encode", ("linear", BEYOND), {}, "images has values from 0.0 to 1.0000006; 0 to 1 are allowed"),
    ("score", ("linear", -BEYOND), {}, "images has values from -1.0000006 to -0.0; 0 to 1 are allowed"),
    (
        "reconstruct",
        ("linear", np.full((1, 3, 4, 6), 1e300)),
        {},
        "images has values from inf to inf; 0 to 1 are allowed",
    ),
    (
        "encode",
        ("linear", IMAGES[0]),
        {},
        "images has shape [3, 4, 6]; it takes [n, channels, height, width], none of them 0",
    ),
    (
        "encode",
        ("linear", IMAGES[:0]),
        {},
        "images has shape [0, 3, 4, 6]; it takes [n, channels, height, width], none of them 0",
    ),
    ("encode", ("linear", []), {}, "images is empty; give at least one"),
    ("encode", ("linear", b"file"), {}, "images is a bytes; give a numpy array or a list of image files"),
    ("encode", ("linear", "file.png"), {}, "images is a str; give a numpy array or a list of image files"),
    ("encode", ("linear", [b"file", "file.png"]), {}, "images[1] is a str; give the bytes of an image file"),
    ("encode", ("linear", IMAGES), {"draw_seed": -1}, "draw_seed -1 is not from 0 to 18446744073709551615"),
    (
        "encode",
        ("linear", IMAGES),
        {"draw_seed": 1, "first_index": 2**48 - 1},
        "first_index 281474976710655 is not from 0 to 281474976710654",
    ),
    (
        "encode",
        ("linear", IMAGES),
        {"first_index": 1},
        "first_index is the index of the draws' noise; give draw_seed too",
    ),
    (
        "decode",
        ("linear", LATENTS.tolist()),
        {},
        "latents is a list; give a numpy array [n, latent_dim] or [n, *latent_shape]",
    ),
    (
        "decode",
        ("linear", LATENTS[0]),
        {},
        "latents has shape [5]; it takes [n, latent_dim] or [n, *latent_shape], none of them 0",
    ),
    ("decode", ("linear", LATENTS.astype(np.uint8)), {}, "latents has dtype uint8; it takes float32, float64"),
    (
        "reconstruct",
        ("linear", IMAGES.astype(bool)),
        {},
        "images has dtype bool; it takes float32, float64, float16, uint8",
    ),
    ("stream_samples", ("linear", 0), {}, "count 0 is not from 1 to 281474976710656"),
    (
        "stream_samples",
        ("linear", 2),
        {"first_index": 2**48 - 1},
        "first_index 281474976710655 is not from 0 to 281474976710654",
    ),
    ("stream_samples", ("linear", 2), {"chunk_rows": 0}, "chunk_rows 0 is not from 1 to 4294967295"),
    (
        "stream_samples",
        ("linear", 2),
        {"format": "png", "grid_columns": 2},
        "grid_columns makes one picture of each chunk; give chunk_rows too",
    ),
    ("stream_samples", ("linear", 2), {"temperature": -0.1}, "temperature -0.1 is not from 0 to 4"),
    ("model", ("linear:1", 2), {}, "model 'linear:1' already says which version; give none besides"),
]


@pytest.mark.parametrize(("method", "args", "kwargs", "message"), REFUSED)
async def test_bad_arguments_are_not_sent(
    invoke: Invoke,
    attempts: list[Any],
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(RequestError) as caught:
        await invoke(method, *args, **kwargs)
    assert str(caught.value) == message
    assert attempts == []


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("models", ()),
        ("model", ("linear",)),
        ("sample", ("linear", 1)),
        ("stream_samples", ("linear", 1)),
        ("encode", ("linear", IMAGES)),
        ("decode", ("linear", LATENTS)),
        ("reconstruct", ("linear", IMAGES)),
        ("score", ("linear", IMAGES)),
        ("interpolate", ("linear", LATENTS, LATENTS, 3)),
        ("traverse", ("linear", [Axis(0, -1, 1, 2)])),
    ],
)
async def test_an_unknown_keyword_is_named(
    invoke: Invoke, attempts: list[Any], method: str, args: tuple[Any, ...]
) -> None:
    with pytest.raises(TypeError) as caught:
        await invoke(method, *args, sed=1)
    assert str(caught.value) == f"{method}() got an unexpected keyword argument 'sed'"
    assert attempts == []


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("load", ("linear:1",)),
        ("unload", ("linear:1",)),
        ("set_alias", ("linear:1", "stable")),
        ("delete_alias", ("linear@stable",)),
        ("rescan", ()),
    ],
)
async def test_an_unknown_keyword_of_administration_is_named(method: str, args: tuple[Any, ...]) -> None:
    with AdminClient() as client, pytest.raises(TypeError, match="'timout'"):
        getattr(client, method)(*args, timout=1.0)
    async with AsyncAdminClient() as client_:
        call = getattr(client_, method)(*args, timout=1.0)
        with pytest.raises(TypeError, match="'timout'"):
            await call


async def test_an_awaited_call_complains_when_it_is_awaited_and_a_stream_at_once(target: str) -> None:
    async with AsyncClient(target) as client:
        sample: Any = client.sample
        call = sample("linear", 1, sed=1)
        with pytest.raises(TypeError, match="'sed'"):
            await call
        stream_samples: Any = client.stream_samples
        with pytest.raises(TypeError, match="'sed'"):
            stream_samples("linear", 1, sed=1)


async def test_numpy_integers_are_integers(invoke: Invoke) -> None:
    result = await invoke("sample", "linear", np.uint8(2), seed=np.uint64(2**64 - 1), first_index=np.int32(3))
    assert (result.seed, result.first_index, len(result.images)) == (2**64 - 1, 3, 2)


async def test_seeds_that_the_client_draws_are_numbers_that_a_double_holds(invoke: Invoke) -> None:
    assert all([(await invoke("sample", "linear", 1)).seed < 2**53 for _ in range(20)])


def shorten_images(response: Any) -> None:
    shape = list(response.images.tensor.shape)
    del response.images.tensor.shape[:]
    response.images.tensor.shape.extend([shape[0] - 1, *shape[1:]])


def drop_a_row(response: Any) -> None:
    tensor = response.images.tensor
    tensor.data = tensor.data[: len(tensor.data) // 2]
    shorten_images(response)


def drop_the_mean(response: Any) -> None:
    response.ClearField("mean")


def drop_the_draws(response: Any) -> None:
    response.ClearField("z")


def drop_a_score(response: Any) -> None:
    response.kl.pop()


def drop_a_latent(response: Any) -> None:
    response.ClearField("latents")


def drop_the_bound(response: Any) -> None:
    response.ClearField("importance_bound")


def drop_a_file(response: Any) -> None:
    response.images.encoded.files.pop()


def drop_a_map(response: Any) -> None:
    response.map.encoded.files.pop()


UNTYPED = "dtype 0 is not one of DTYPE_FLOAT32, DTYPE_UINT8, DTYPE_FLOAT16, DTYPE_INT64"
BROKEN: list[tuple[Callable[[Any], None], str, tuple[Any, ...], dict[str, Any], str]] = [
    (
        shorten_images,
        "sample",
        ("linear", 2),
        {},
        "images: data has 576 bytes; float32 of shape [1, 3, 4, 6] takes 288",
    ),
    (
        drop_a_row,
        "decode",
        ("linear", LATENTS),
        {},
        "images: the reply is float32 [1, 3, 4, 6]; 2 rows of float32 in 4 axes were asked for",
    ),
    (drop_the_mean, "encode", ("linear", IMAGES), {}, f"mean: {UNTYPED}"),
    (drop_the_draws, "encode", ("linear", IMAGES), {"draw_seed": 3}, f"z: {UNTYPED}"),
    (drop_a_score, "reconstruct", ("linear", IMAGES), {}, "kl: the reply has 1 values; 2 were asked for"),
    (drop_a_file, "sample", ("linear", 2), {"format": "png"}, "images: the reply has 1 files; 2 were asked for"),
    (
        drop_a_file,
        "sample",
        ("linear", 2),
        {"format": "png", "grid_columns": 2},
        "images: the reply has 0 files; 1 were asked for",
    ),
    (drop_a_map, "score", ("linear", IMAGES), {"map": "png"}, "map: the reply has 1 files; 2 were asked for"),
    (drop_a_latent, "interpolate", ("linear", LATENTS, LATENTS, 2), {}, f"latents: {UNTYPED}"),
    (
        drop_the_bound,
        "score",
        ("linear", IMAGES),
        {"draws": 2},
        "importance_bound: the reply has 0 values; 2 were asked for",
    ),
]


@pytest.mark.parametrize(("spoil", "method", "args", "kwargs", "message"), BROKEN)
async def test_a_reply_that_breaks_the_contract_is_an_error(
    invoke: Invoke,
    faults: list[Any],
    spoil: Callable[[Any], None],
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    message: str,
) -> None:
    faults.append(spoil)
    with pytest.raises(ReplyError) as caught:
        await invoke(method, *args, **kwargs)
    assert str(caught.value) == message


async def test_words_of_a_newer_server_are_unknown(invoke: Invoke, faults: list[Any]) -> None:
    def modernise(response: Any) -> None:
        response.models[0].state = 99
        response.models[0].capabilities.append(99)

    faults.append(modernise)
    status = (await invoke("models"))[0]
    assert (status.state, status.capabilities[-1]) == ("unknown", "unknown")
