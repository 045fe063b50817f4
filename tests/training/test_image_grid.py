"""Pictures of images: what is shown of channels that no picture has."""

from __future__ import annotations

import numpy as np
import pytest

from latentserve_training.image_grid import grid, shown


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (13, "RGB")])
def test_the_first_channels_are_shown(channels: int, mode: str) -> None:
    images = np.arange(2 * channels * 6, dtype=np.uint8).reshape(2, channels, 2, 3)
    picture = grid(shown(images), columns=2, scale=1, gap=0)
    assert (picture.mode, picture.size) == (mode, (6, 2))
    expected = images[0, :3].transpose(1, 2, 0) if mode == "RGB" else images[0, 0]
    np.testing.assert_array_equal(np.asarray(picture)[:, :3], expected)
