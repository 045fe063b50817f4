"""The nearest training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentserve_training.evaluation.neighbours import Neighbours


def test_a_copy_is_at_no_distance() -> None:
    training = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300, 3, 64, 64), dtype=np.uint8))
    found = Neighbours.of(training[[299, 5]], training, 2)
    assert found.rows[:, 0].tolist() == [299, 5]
    assert found.distances[:, 0].tolist() == [0.0, 0.0]
    assert (found.distances[:, 1] > 10).all()


@pytest.mark.parametrize("count", [1, 3, 300])
def test_the_nearest_are_found_among_more_than_are_compared_at_once(count: int) -> None:
    """Of 65,536 values each, 256 training images are compared at once."""
    rng = np.random.default_rng(0)
    training = rng.integers(0, 256, (300, 1, 256, 256), dtype=np.uint8)
    images = training[[299, 0, 150]].copy()
    images[:, :, :128] = rng.integers(0, 256, (3, 1, 128, 256), dtype=np.uint8)
    found = Neighbours.of(torch.from_numpy(images), torch.from_numpy(training), count)
    distances = np.array([[np.linalg.norm(one / 255 - other / 255) for other in training] for one in images])
    np.testing.assert_array_equal(found.rows[:, 0], [299, 0, 150])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :count], rtol=1e-4)
    np.testing.assert_allclose(found.distances, np.take_along_axis(distances, found.rows.numpy(), axis=1), rtol=1e-4)
