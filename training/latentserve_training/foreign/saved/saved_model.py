"""A saved model, opened: its networks as the library runs and exports them, and the description that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_training.foreign.guess.draft import Guess

Array = NDArray[Any]
MIXTURE = "mixture.npz"
"""What a description calls the file of a saved model's mixture."""
_ROWS = 8
"""How many rows the library runs at a time."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A decoder or an encoder in its library."""

    inputs: tuple[str, ...]
    """What its file takes, in this order: latent and perhaps label, or image."""
    outputs: tuple[str, ...]
    """What it gives, as a reference calls it: image, or mean and log_variance, or codes."""
    run: Callable[..., Sequence[Array]]
    """From arrays [rows, ...], latents and perhaps labels, or images, to the outputs, each [rows, ...]."""
    write: Callable[[Path], None]
    """Exports it to an ONNX file with these inputs and outputs, for any number of rows."""

    def compute(self, *inputs: Array) -> dict[str, Array]:
        """The outputs by name, run some rows at a time."""
        starts = range(0, len(inputs[0]), _ROWS)
        parts = [self.run(*(rows[start : start + _ROWS] for rows in inputs)) for start in starts]
        return {name: np.concatenate(found) for name, found in zip(self.outputs, zip(*parts, strict=True), strict=True)}


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model of a library, with what its configuration says of it."""

    stated: Sequence[Guess]
    """What is known of it but for its graphs and its mixture, with the reasons; what is not is asked of the graphs."""
    decoder: Network
    encoder: Network | None = None
    mixture: Mapping[str, Array] | None = None
    """The prior's arrays, where it is a mixture."""


def latent_size(sides: Sequence[int], reason: str) -> Guess:
    """The shape of a latent as a description has it."""
    return Guess("latent_dim", sides[0], reason) if len(sides) == 1 else Guess("latent_shape", list(sides), reason)
