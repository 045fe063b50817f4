"""Ways through the latent space, as arrays."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentserve_server.latent.walks import Axis, Path, interpolate, interpolation_bytes, traverse
from latentserve_server.workers import Workers

LATENTS = hnp.arrays(np.float32, (2, 5), elements=st.floats(-4, 4, width=32))


@given(ends=st.tuples(LATENTS, LATENTS), steps=st.integers(2, 9), path=st.sampled_from(Path))
def test_a_path_begins_and_ends_where_it_should(ends: tuple[np.ndarray, np.ndarray], steps: int, path: Path) -> None:
    points = interpolate(*ends, steps, path).reshape(2, steps, 5)
    np.testing.assert_allclose(points[:, 0], ends[0], atol=1e-5)
    np.testing.assert_allclose(points[:, -1], ends[1], atol=1e-5)
    assert np.isfinite(points).all()


def test_a_straight_line_has_even_steps() -> None:
    points = interpolate(np.zeros((1, 2), np.float32), np.array([[4, -2]], np.float32), 5, Path.LINEAR)
    assert points.tolist() == [[0, 0], [1, -0.5], [2, -1], [3, -1.5], [4, -2]]


def test_a_turn_keeps_its_length_and_has_even_angles() -> None:
    a, b = np.array([[2, 0]], np.float32), np.array([[0, 2]], np.float32)
    points = interpolate(a, b, 4, Path.SPHERICAL)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 2, rtol=1e-6)
    np.testing.assert_allclose(np.degrees(np.arctan2(points[:, 1], points[:, 0])), [0, 30, 60, 90], atol=1e-4)


def test_a_turn_between_different_lengths_changes_length_evenly() -> None:
    points = interpolate(np.array([[1, 0]], np.float32), np.array([[0, 3]], np.float32), 3, Path.SPHERICAL)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), [1, 2, 3], rtol=1e-6)


@pytest.mark.parametrize("end", [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]], ids=["parallel", "opposite", "zero"])
def test_a_turn_that_has_no_plane_is_a_straight_line(end: list[float]) -> None:
    a, b = np.array([[1, 2]], np.float32), np.array([end], np.float32)
    assert np.array_equal(interpolate(a, b, 5, Path.SPHERICAL), interpolate(a, b, 5, Path.LINEAR))


def test_a_plane_varies_its_last_axis_fastest_and_keeps_the_rest() -> None:
    origin = np.array([9, 8, 7], np.float32)
    points = traverse(origin, [Axis(2, -1, 1, 2), Axis(0, 0, 1, 3)])
    expected = [[0, 8, -1], [0.5, 8, -1], [1, 8, -1], [0, 8, 1], [0.5, 8, 1], [1, 8, 1]]
    assert points.tolist() == expected
    assert points.dtype == np.float32


@pytest.mark.parametrize(("pairs", "in_place"), [(1, True), (2048, False)])
async def test_many_pairs_are_work_for_a_thread_however_small_they_are(pairs: int, in_place: bool) -> None:
    workers = Workers(1)
    where = await workers.run(interpolation_bytes(np.zeros((pairs, 3), np.float32), 2), threading.get_ident)
    assert (where == threading.get_ident()) == in_place
    workers.close()
