"""Both implementations of the mixture's rule, the server's and the one in plain Python, give the vectors.

The vectors beside this file are for implementations in other languages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_noise import bits, component_of, mixture_row, noise_row
from tiny_bundle import TinyModel

from latentserve.contract import MAX_INDEX
from latentserve_server.latent.noise import NOISE_SCHEME, NoiseSource, Stream
from latentserve_server.latent.prior import Mixture, Prior, PriorSource, SamplingSpec

VECTORS = json.loads((Path(__file__).parent / "mixture_vectors.json").read_text())


def floats(patterns: Any) -> NDArray[np.float32]:
    """Nested lists of bit patterns as an array."""
    return np.vectorize(lambda text: int(text, 16), otypes=[np.uint32])(patterns).view(np.float32)


def mixture_of(vector: dict[str, Any]) -> Mixture:
    weights = np.array([float.fromhex(weight) for weight in vector["weights"]])
    return Mixture(weights, floats(vector["means"]), floats(vector["factors"]))


def test_the_vectors_are_of_the_scheme_that_is_served() -> None:
    assert VECTORS["noise_scheme"] == NOISE_SCHEME


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: f"{v['seed']}-{v['first_index']}-{v['dim']}")
def test_both_implementations_draw_the_vectors(vector: dict[str, Any]) -> None:
    seed, first, dim = int(vector["seed"]), int(vector["first_index"]), vector["dim"]
    mixture, rows, components = mixture_of(vector), vector["rows"], vector["components"]
    indices = range(first, first + len(rows))
    assert [component_of(seed, index, mixture.weights.tolist()) for index in indices] == components
    for index, component, row in zip(indices, components, rows, strict=True):
        noise = noise_row(seed, 0, index, dim)
        assert bits(mixture_row(mixture.means[component], mixture.factors[component], noise)) == row
    assert mixture.choose(NoiseSource().words(seed, first, len(rows), Stream.COMPONENT)).tolist() == components
    drawn = PriorSource(NoiseSource(), dim, mixture).draw(seed, first, len(rows), SamplingSpec(Prior.MIXTURE))
    assert [bits(row) for row in drawn] == rows


def test_the_vectors_cover_seeds_places_dimensions_and_components() -> None:
    covered = {key: {int(vector[key]) for vector in VECTORS["vectors"]} for key in ("seed", "dim")}
    assert covered == {"seed": {0, 7, 2**64 - 1}, "dim": {1, 2, 3, 5}}
    assert {0, MAX_INDEX - 4} < {int(vector["first_index"]) for vector in VECTORS["vectors"]}
    assert {len(vector["weights"]) for vector in VECTORS["vectors"]} == {1, 3, 4}


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, MAX_INDEX - 5),
    dim=st.integers(1, 7),
    components=st.integers(1, 5),
)
def test_both_implementations_agree_to_the_bit(seed: int, first: int, dim: int, components: int) -> None:
    arrays = TinyModel(latent_dim=dim, components=components, seed=seed % 97).mixture()
    mixture = Mixture(arrays["weights"], arrays["means"], arrays["factors"])
    drawn = PriorSource(NoiseSource(), dim, mixture).draw(seed, first, 5, SamplingSpec(Prior.MIXTURE))
    for row, index in zip(drawn, range(first, first + 5), strict=True):
        component = component_of(seed, index, mixture.weights.tolist())
        noise = noise_row(seed, 0, index, dim)
        assert bits(row) == bits(mixture_row(mixture.means[component], mixture.factors[component], noise))
