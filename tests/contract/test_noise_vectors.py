"""Both implementations of the noise scheme, the server's and the one in plain Python, give the vectors.

The vectors beside this file are for implementations in other languages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_noise import F, bits, noise_row, normals, philox4x64

from latentserve.contract import MAX_INDEX, MAX_LATENT_DIM, MAX_NOISE_INPUTS
from latentserve_server.latent.noise import NOISE_SCHEME, NoiseSource, Stream
from latentserve_server.latent.noise_inputs import NoiseInputs

VECTORS = json.loads((Path(__file__).parent / "noise_vectors.json").read_text())


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("0" * 64, "0" * 32, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        ("f" * 64, "f" * 32, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
        (
            "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
            "452821e638d01377be5466cf34e90c6c",
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_philox_gives_the_known_answers_of_its_authors(counter: str, key: str, words: str) -> None:
    c0, c1, c2, c3, k0, k1 = (int((counter + key)[place : place + 16], 16) for place in range(0, 96, 16))
    assert philox4x64((c0, c1, c2, c3), (k0, k1)) == tuple(int(word, 16) for word in words.split())


def test_the_vectors_are_of_the_scheme_that_is_served() -> None:
    assert VECTORS["noise_scheme"] == NOISE_SCHEME


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: "-".join(str(v[k]) for k in list(v)[:4]))
def test_both_implementations_draw_the_vectors(vector: dict[str, Any]) -> None:
    seed, stream, index, dim = (int(vector[key]) for key in ("seed", "stream", "first_index", "dim"))
    rows = vector["rows"]
    assert [bits(noise_row(seed, stream, index + i, dim)) for i in range(len(rows))] == rows
    drawn = NoiseSource().draw(seed, index, len(rows), dim, stream)
    assert [bits(row) for row in drawn] == rows


OF_INPUTS = [vector for vector in VECTORS["vectors"] if vector["stream"] >= Stream.INPUT]
SIDES = {1: (1,), 3: (1, 3, 1), 8: (2, 4), 17: (17, 1)}
"""Of a row, by its number of values."""


@pytest.mark.parametrize("vector", OF_INPUTS, ids=lambda v: "-".join(str(v[k]) for k in list(v)[:4]))
def test_a_decoder_s_noise_inputs_are_the_vectors_of_their_streams(vector: dict[str, Any]) -> None:
    seed, index, rows, shape = int(vector["seed"]), int(vector["first_index"]), vector["rows"], SIDES[vector["dim"]]
    place = vector["stream"] - Stream.INPUT
    inputs = NoiseInputs(NoiseSource(), {f"noise{k}": shape if k == place else (2,) for k in range(MAX_NOISE_INPUTS)})
    drawn = inputs.drawn(seed, index, len(rows))[f"noise{place}"].rows()
    assert drawn.shape == (len(rows), *shape)
    assert [bits(row.ravel()) for row in drawn] == rows
    if (seed, index) == (0, 0):
        given = inputs.of_given_latents(2)[f"noise{place}"]
        assert [bits(row.ravel()) for row in given] == 2 * rows[:1]


def test_the_vectors_cover_seeds_streams_places_and_dimensions() -> None:
    covered = {key: {int(vector[key]) for vector in VECTORS["vectors"]} for key in ("seed", "stream", "dim")}
    assert covered == {"seed": {0, 7, 2**64 - 1}, "stream": {0, 1, 3, 4, 66}, "dim": {1, 2, 3, 8, 17}}
    assert max(covered["stream"]) == Stream.INPUT + MAX_NOISE_INPUTS - 1
    assert {0, MAX_INDEX - 2} < {int(vector["first_index"]) for vector in VECTORS["vectors"]}


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, Stream.INPUT + MAX_NOISE_INPUTS - 1),
    first_index=st.integers(0, MAX_INDEX - 3),
    dim=st.integers(1, 12),
)
def test_both_implementations_agree_to_the_bit(seed: int, stream: int, first_index: int, dim: int) -> None:
    drawn = NoiseSource().draw(seed, first_index, 3, dim, stream)
    assert [bits(row) for row in drawn] == [bits(noise_row(seed, stream, first_index + i, dim)) for i in range(3)]


def test_both_implementations_agree_at_the_last_value_of_the_scheme() -> None:
    row = NoiseSource().draw(2**64 - 1, MAX_INDEX - 1, 1, MAX_LATENT_DIM, Stream.POSTERIOR)[0]
    block, place = divmod(MAX_INDEX * MAX_LATENT_DIM // 2 - 1, 4)
    word = philox4x64((block + 1, 0, 0, 0), (2**64 - 1, Stream.POSTERIOR))[place]
    assert bits(row[-2:]) == bits(np.array(normals(word), F))
