"""What the outputs of a graph must be like, whatever the golden rows say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_server.errors import BundleError


def check_outputs(outputs: Mapping[str, NDArray[Any]]) -> None:
    """Hold the outputs of one run, by name, to their meaning.

    Raises:
        BundleError: a value is not finite, an `image` leaves [0, 1], or an `image_uint8` is over one level beside it.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"output {name!r} has values that are not finite, on the golden rows")
    image = outputs.get("image")
    if image is None:
        return
    if image.min() < 0 or image.max() > 1:
        raise BundleError(f"output 'image' is in [{image.min():.6g}, {image.max():.6g}], not in [0, 1]")
    if np.abs(outputs["image_uint8"] - 255 * image).max() > 1:
        raise BundleError("output 'image_uint8' is not 255 times 'image', rounded")
