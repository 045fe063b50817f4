"""The models of pixels given a latent, p(x|z): what each needs of a decoder, and what an image costs by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.nats import bernoulli_nats, discretized_logistic_nats, gaussian_nats

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """One p(x|z)."""

    own_output: str
    """The decoder's output that this likelihood demands beside the images: float32, of an image's shape."""
    outputs: tuple[str, ...]
    """The decoder's outputs that the cost is computed from."""
    _cost: Callable[..., Float32]

    def nats(self, images: Float32, decoded: Mapping[str, NDArray[Any]]) -> Float32:
        """-log p(x|z) for every row, float32 [n]: images x [n, ...], and the decoder's outputs for each row's z."""
        return self._cost(images, *(decoded[name] for name in self.outputs))


LIKELIHOODS: Mapping[pb.Likelihood, Likelihood] = MappingProxyType(
    {
        pb.LIKELIHOOD_BERNOULLI: Likelihood("logits", ("logits",), bernoulli_nats),
        pb.LIKELIHOOD_GAUSSIAN: Likelihood("log_scale", ("image", "log_scale"), gaussian_nats),
        pb.LIKELIHOOD_DISCRETIZED_LOGISTIC: Likelihood("log_scale", ("image", "log_scale"), discretized_logistic_nats),
    }
)
"""Those that a VAE may have."""
