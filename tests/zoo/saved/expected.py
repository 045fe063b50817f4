"""What a library computes with a model that it saved, as a server is to give it.

A program of this folder writes for each model FOLDER/NAME/saved, which is its library's, and FOLDER/NAME/expected.npz:
`latents` [64, ...], row 0 of the noise scheme for seeds 0 to 63, or codes; perhaps `labels` [64]; `images` of these;
of a model with an encoder `pixels` [8, ...], their `mean` and perhaps `log_variance`, or `codes`, and `reconstruction`.
Pictures are [rows, channels, height, width] in [0, 1].
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "libraries"))

Array = np.ndarray[Any, Any]


def write(folder: Path, **expected: Array) -> None:
    """Write what the library computes."""
    for name in {"images", "reconstruction"} & expected.keys():
        pictures = expected[name]
        assert np.mean((pictures > 0) & (pictures < 1)) > 0.2, "too many pixels are beyond the range"
        assert pictures.std(axis=0).mean() > 0.01, "the pictures are all alike"
        expected[name] = np.clip(pictures, 0, 1)
    np.savez(folder / "expected.npz", allow_pickle=False, **expected)
