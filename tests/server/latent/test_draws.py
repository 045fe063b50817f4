"""Latents that are drawn when a batch is joined: the same, to the bit, as drawn one call at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentserve_server.latent.noise import Draw, NoiseSource, join_rows
from latentserve_server.latent.prior import STANDARD_NORMAL, NoiseTransform, PriorSource, SamplingSpec

SOURCES = {dim: PriorSource(NoiseSource(), dim, None) for dim in (1, 7, 100)}
SHAPED = SamplingSpec(shaping=NoiseTransform(temperature=0.5, truncation=1.5))
WARM = SamplingSpec(shaping=NoiseTransform(temperature=1.5))


def lazily(source: PriorSource, where: tuple[int, int, int], sampling: SamplingSpec = STANDARD_NORMAL) -> Draw:
    """The same latents, to be drawn when they are joined."""
    return Draw(source.noise, source.dim, *where, None if sampling is STANDARD_NORMAL else source.shaped(sampling))


calls = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**48 - 100), st.integers(1, 40))


@given(
    st.sampled_from(sorted(SOURCES)),
    st.lists(
        st.tuples(calls, st.sampled_from([STANDARD_NORMAL, SHAPED, WARM]), st.booleans()), min_size=1, max_size=12
    ),
)
def test_what_is_drawn_together_is_what_is_drawn_alone(
    dim: int, asked: list[tuple[tuple[int, int, int], SamplingSpec, bool]]
) -> None:
    source = SOURCES[dim]
    alone = [source.draw(*where, sampling) for where, sampling, _ in asked]
    parts = [
        rows if is_array else lazily(source, where, sampling)
        for (where, sampling, is_array), rows in zip(asked, alone, strict=True)
    ]
    out = np.empty((sum(map(len, alone)), dim), np.float32)
    join_rows(parts, out)
    assert out.tobytes() == np.concatenate(alone).tobytes()


@given(calls, st.data())
def test_a_part_of_a_draw_has_its_rows(where: tuple[int, int, int], data: st.DataObject) -> None:
    source = SOURCES[7]
    start = data.draw(st.integers(0, where[2] - 1))
    stop = data.draw(st.integers(start + 1, where[2]))
    part = lazily(source, where)[start:stop]
    assert (len(part), part.shape) == (stop - start, (stop - start, 7))
    out = np.empty(part.shape, np.float32)
    join_rows([part], out)
    assert out.tobytes() == source.draw(*where)[start:stop].tobytes()


def test_many_rows_cross_the_chunks_of_the_transform() -> None:
    source = SOURCES[100]
    draws = [lazily(source, (seed, 5, 300)) for seed in range(4)]
    out = np.empty((1200, 100), np.float32)
    join_rows(draws, out)
    assert out.tobytes() == b"".join(source.draw(seed, 5, 300).tobytes() for seed in range(4))


@pytest.mark.parametrize("sampling", [STANDARD_NORMAL, SHAPED])
def test_a_draw_takes_the_memory_of_its_latents_and_at_least_as_much_work(sampling: SamplingSpec) -> None:
    draw = lazily(SOURCES[7], (0, 0, 10), sampling)
    assert draw.nbytes == 4 * 10 * 7
    assert draw.work_bytes >= draw.nbytes
