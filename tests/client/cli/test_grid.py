"""Pictures of many images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentserve_client.cli.output import SEPARATOR, draw_grid, draw_pairs


def images(count: int, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, channels, height, width), np.uint8)


@given(st.integers(1, 30), st.sampled_from([1, 3, 4]), st.integers(1, 9), st.integers(1, 9))
def test_every_image_is_in_its_cell(count: int, channels: int, height: int, width: int) -> None:
    drawn = images(count, channels, height, width)
    picture = np.asarray(draw_grid(drawn)).reshape(*np.asarray(draw_grid(drawn)).shape[:2], channels)
    columns = (picture.shape[1] - SEPARATOR) // (width + SEPARATOR)
    rows = (picture.shape[0] - SEPARATOR) // (height + SEPARATOR)
    assert rows <= columns <= rows + 1 or count <= 2
    assert (rows - 1) * columns < count <= rows * columns
    for index, image in enumerate(drawn):
        top = SEPARATOR + index // columns * (height + SEPARATOR)
        left = SEPARATOR + index % columns * (width + SEPARATOR)
        np.testing.assert_array_equal(picture[top : top + height, left : left + width].transpose(2, 0, 1), image)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_an_original_stands_above_its_reconstruction(channels: int, mode: str) -> None:
    originals, reconstructions = images(2, channels, 4, 5), images(2, channels, 4, 5)[::-1]
    picture = draw_pairs(originals, reconstructions)
    assert (picture.mode, picture.size) == (mode, (2 + 5 + 2 + 5 + 2, 2 + 4 + 1 + 4 + 2))
    pixels = np.asarray(picture).reshape(13, 16, channels)
    for column in range(2):
        left = 2 + 7 * column
        np.testing.assert_array_equal(pixels[2:6, left : left + 5].transpose(2, 0, 1), originals[column])
        np.testing.assert_array_equal(pixels[7:11, left : left + 5].transpose(2, 0, 1), reconstructions[column])
    assert (pixels[[0, 6], :, 3:] == 255).all()  # the border and the line between are opaque
