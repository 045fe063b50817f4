"""scikit-learn's bundled handwritten digits, enlarged; no file and no network needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentserve_training.data.dataset import Split

_LEVELS = 16.0
_MARGIN = 1
_CONTRAST = 2.0


def read_digits(size: int) -> Split:
    """The 1,797 digits as grey images uint8 [1797, 1, size, size] with labels 0 to 9.

    The originals are 8x8 block averages of pen strokes with 17 levels and no margin. A margin of one pixel and bicubic
    enlargement bring back the strokes' smooth outline; doubling the contrast around mid-grey gives them an edge again.
    """
    from sklearn.datasets import load_digits  # a second of imports, which other data does without

    digits = load_digits()
    margin = ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
    grey = np.pad(digits.images.astype(np.float32) / np.float32(_LEVELS), margin)
    large = np.stack([_enlarge(image, size) for image in grey])
    ink = np.clip((large - 0.5) * _CONTRAST + 0.5, 0.0, 1.0)
    names = tuple(str(name) for name in digits.target_names)
    return Split(np.rint(255 * ink).astype(np.uint8)[:, np.newaxis], digits.target.astype(np.int64), names)


def _enlarge(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
