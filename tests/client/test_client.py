"""What the calls of both clients return: types, shapes, and who served them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import numpy as np
import pytest

from latentserve_client import (
    AsyncClient,
    Axis,
    Client,
    Decoded,
    ModelStatus,
    Samples,
    Seeds,
    Timing,
)

Invoke = Callable[..., Awaitable[Any]]


LATENTS = np.zeros((2, 5), np.float32)
PICTURES = np.zeros((2, 3, 4, 6), np.uint8)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "shapes"),
    [
        ("sample", (2,), {}, {"images": (2, 3, 4, 6)}),
        ("decode", (LATENTS,), {}, {"images": (2, 3, 4, 6)}),
        ("encode", (PICTURES,), {"draw_seed": 1}, {"mean": (2, 5), "log_variance": (2, 5), "z": (2, 5)}),
        ("reconstruct", (PICTURES,), {}, {"images": (2, 3, 4, 6), "reconstruction_error": (2,), "kl": (2,)}),
        ("interpolate", (Seeds([1]), LATENTS[:1], 3), {}, {"images": (3, 3, 4, 6), "latents": (3, 5)}),
        ("traverse", ([Axis(0, -1, 1, 4)],), {}, {"images": (4, 3, 4, 6), "latents": (4, 5)}),
        ("score", (PICTURES,), {"draws": 2}, {"elbo": (2,), "importance_bound": (2,)}),
    ],
)
async def test_every_result_has_a_row_for_each(
    invoke: Invoke, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    result = await invoke(method, "linear", *args, **kwargs)
    arrays = {name: getattr(result, name) for name in shapes}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


async def test_a_map_comes_in_the_form_that_was_asked_for(invoke: Invoke) -> None:
    assert (await invoke("score", "linear", PICTURES)).map is None
    for form in ("float32", "float16", "uint8"):
        shown = (await invoke("score", "linear", PICTURES, map=form)).map
        assert (shown.images.dtype, shown.images.shape) == (np.dtype(form), (2, 3, 4, 6))
    assert [file[1:4] for file in (await invoke("score", "linear", PICTURES, map="png")).map.files] == [b"PNG"] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
async def test_images_have_the_number_format_that_was_asked_for(invoke: Invoke, dtype: type) -> None:
    images = (await invoke("sample", "linear", 2, seed=100, format=np.dtype(dtype).name)).images
    levels = np.array([100, 101]) / (1 if dtype is np.uint8 else 255)
    assert images.dtype == dtype
    np.testing.assert_allclose(images[:, 0, 0, 0], levels, rtol=1e-3)
    assert [file[1:4] for file in (await invoke("sample", "linear", 2, format="png")).files] == [b"PNG"] * 2


async def test_a_result_says_who_served_it(invoke: Invoke, attempts: list[tuple[str, str, Any]]) -> None:
    served = (await invoke("sample", "linear@stable", 1)).served
    assert (served.model, served.version) == ("linear", 1)
    assert served.timing == Timing(queue_ns=1_000, compute_ns=2_000, total_ns=4_000, batch_rows=16)
    ((method, request_id, _),) = attempts
    assert (method, request_id) == ("Sample", served.request_id)
    assert len(served.request_id) == 32


async def test_methods_have_the_types_of_their_results(target: str) -> None:
    with Client(target) as client:
        assert_type(client.sample("linear", 1), Samples)
        assert_type(client.sample("linear", 1, format="png").files, list[bytes])
        assert_type(client.models(), list[ModelStatus])
    async with AsyncClient(target) as client_:
        assert_type(await client_.decode("linear", np.zeros((1, 5))), Decoded)
