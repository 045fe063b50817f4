"""What a foreign decoder tells of p(x|z) beside the image: logits or log-scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.errors import ExportError
from latentserve_training.foreign.affine import Affine
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.pixels import Pixels
from latentserve_training.foreign.tensor import FLOATS, dtype_of

_SIGMOID_LIMIT = 1e-4
_SIGMOID_LIMIT_FLOAT16 = 1e-3
"""Near 1, neighbours in float16 are 4.9e-4 apart, and the logits are rounded, too."""


def likelihood_tensor(description: ForeignModel, graph: ForeignGraph, image: str) -> str | None:
    """The tensor of logits, scales or variances beside the image; None where there is none.

    Raises:
        ExportError: it is not there.
    """
    names = description.decoder
    if description.likelihood != "bernoulli":
        named = names.log_scale or names.log_variance
        return graph.tensor(named) if named else None
    logits = names.logits or graph.logits_of(image)
    if logits is None:
        raise ExportError(f"decoder: no Sigmoid node gives {image!r}; name the tensor of the logits in decoder.logits")
    return graph.tensor(logits)


@dataclass(frozen=True)
class LikelihoodTensor:
    """A bundle's output for the likelihood, and the foreign tensor that it comes from."""

    output: str
    """ "logits" or "log_scale"."""
    tensor: str | None
    """Absent where the log-scale is one number."""
    dtype: int
    """One of onnx.TensorProto's data types."""
    affine: Affine
    """From the tensor to the output."""
    known: tuple[int, ...] | None = None
    """The shape of the tensor's rows, as far as the file says."""
    number: float = 0.0
    """The log-scale where it is one number, of pixels in [0, 1]."""

    @classmethod
    def of(
        cls, description: ForeignModel, graph: ForeignGraph, pixels: Pixels, tensor: str | None
    ) -> LikelihoodTensor | None:
        """What the description says of the tensor that `likelihood_tensor` found; None for a GAN.

        Raises:
            ExportError: the tensor is of an element type that is not known here.
        """
        shift = -math.log(pixels.span)
        if description.likelihood is None:
            return None
        if tensor is None:
            assert description.log_scale is not None, "the description has a number or a tensor"
            return cls("log_scale", None, TensorProto.FLOAT, Affine(), None, description.log_scale + shift)
        dtype, known = dtype_of(graph, tensor, FLOATS), graph.shape(tensor)
        if description.likelihood == "bernoulli":
            return cls("logits", tensor, dtype, Affine(), known)
        half = 0.5 if description.decoder.log_variance else 1.0
        return cls("log_scale", tensor, dtype, Affine(half, shift), known)

    def values(self, found: dict[str, NDArray[Any]], pixels: Pixels, count: int) -> NDArray[np.float64]:
        """The output [count, channels, height, width] of what the foreign graph has given.

        Raises:
            ExportError: it has another size than the images.
        """
        if self.tensor is None:
            return np.full((count, *pixels.shape), self.number)
        return self.affine(pixels.planes(found[self.tensor], count, f"decoder: {self.tensor!r}"))

    def add(self, nodes: Nodes, tensor: str, image: str, pixels: Pixels) -> str:
        """Add what makes the output; `tensor` is the foreign one, `image` the bundle's."""
        if self.tensor is None:
            return nodes.add("Expand", np.float32(self.number), nodes.add("Shape", image))
        return pixels.take(nodes, tensor, self.affine, self.dtype, self.known)

    def check(self, images: NDArray[np.float64], logits: NDArray[np.float64]) -> None:
        """Raise ExportError unless the images are the sigmoid of the logits, as far as their element type tells."""
        coarse = self.dtype == TensorProto.FLOAT16
        difference = float(np.abs(sigmoid(logits) - images).max())
        if not difference <= (_SIGMOID_LIMIT_FLOAT16 if coarse else _SIGMOID_LIMIT):
            raise ExportError(
                f"decoder: the image is not the sigmoid of {self.tensor!r}, from which it differs by {difference:.2e}; "
                "name the tensor of the logits in decoder.logits"
            )


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-logits))
