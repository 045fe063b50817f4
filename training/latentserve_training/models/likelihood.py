"""Pixel likelihoods p(x|z) of a VAE, parametrised by its decoder's logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentserve_training.models.losses import bernoulli_nll, discretized_logistic_nll, gaussian_nll
from latentserve_training.models.model import ImageShape
from latentserve_training.models.random_draws import binarize

LikelihoodName = Literal["bernoulli", "gaussian", "discretized_logistic"]

_FIRST_LOG_SCALE = -2.0
_LEAST_LOG_SCALE = -7.0


class PixelParameters(NamedTuple):
    """The parameters of p(x|z), [batch, channels, height, width]; its mean is sigmoid(logits), in [0, 1]."""

    logits: Tensor
    log_scale: Tensor | None
    """Logarithm of the Gaussian's standard deviation or of the logistic's scale; None for a Bernoulli likelihood."""

    @property
    def mean(self) -> Tensor:
        """The decoded image, computed in float32 whatever the logits are: bfloat16 is half a level of a pixel off."""
        return self.logits.float().sigmoid()


class Likelihood(nn.Module, ABC):
    """p(x|z), independent over pixels and channels."""

    name: ClassVar[LikelihoodName]

    level_width: ClassVar[float | None]
    """The measure of one of a stored pixel's 256 levels, for `bits_per_dim`; None where x is no stored image."""

    @abstractmethod
    def observe(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The x that is modelled, and that the encoder reads, for images in [0, 1]."""

    @abstractmethod
    def parameters_of(self, logits: Tensor) -> PixelParameters:
        """The parameters that go with a decoder's logits."""

    @abstractmethod
    def nll(self, parameters: PixelParameters, x: Tensor) -> Tensor:
        """-log p(x|z) in nats, summed over pixels and channels, float32 [batch]."""


class BernoulliLikelihood(Likelihood):
    """Bernoulli pixels: x is a fresh binarisation of the image, so that the ELBO bounds a true log-likelihood."""

    name = "bernoulli"
    level_width = None

    def observe(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x ~ Bernoulli(images)."""
        return binarize(images, generator)

    def parameters_of(self, logits: Tensor) -> PixelParameters:
        """Only the logits."""
        return PixelParameters(logits, None)

    def nll(self, parameters: PixelParameters, x: Tensor) -> Tensor:
        """See `losses.bernoulli_nll`."""
        return bernoulli_nll(parameters.logits, x)


class ScaledLikelihood(Likelihood):
    """A location and a scale: the decoded image, and one learned log-scale per channel.

    One scale for all pixels and images, not one that the decoder computes: a decoder that may choose the scale of each
    pixel drives it to nothing where the data is constant, and then learns little else; a shared one balances the terms
    of the ELBO by itself (Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated Decoders").
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), _FIRST_LOG_SCALE))

    def observe(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The images themselves."""
        return images

    def parameters_of(self, logits: Tensor) -> PixelParameters:
        """The logits and the channels' log-scales, bounded below so that no density grows without end.

        Softly: a hard bound has no gradient beyond it, and one step too far would be the last.
        """
        log_scale = _LEAST_LOG_SCALE + functional.softplus(self.log_scale - _LEAST_LOG_SCALE)
        return PixelParameters(logits, log_scale.expand_as(logits))


class GaussianLikelihood(ScaledLikelihood):
    """Gaussian pixels: a density over values from 0 to 1, so that its nats may be negative."""

    name = "gaussian"
    level_width = 1 / 255

    def nll(self, parameters: PixelParameters, x: Tensor) -> Tensor:
        """See `losses.gaussian_nll`."""
        assert parameters.log_scale is not None, "parameters_of gives every logit its scale"
        return gaussian_nll(parameters.mean, parameters.log_scale, x)


class DiscretizedLogisticLikelihood(ScaledLikelihood):
    """Logistic pixels, rounded to 256 levels: a probability of the stored image itself."""

    name = "discretized_logistic"
    level_width = 1.0

    def nll(self, parameters: PixelParameters, x: Tensor) -> Tensor:
        """See `losses.discretized_logistic_nll`."""
        assert parameters.log_scale is not None, "parameters_of gives every logit its scale"
        return discretized_logistic_nll(parameters.mean, parameters.log_scale, x)


def build_likelihood(name: LikelihoodName, image_shape: ImageShape) -> Likelihood:
    """The likelihood of that name, for images of `image_shape`."""
    match name:
        case "bernoulli":
            return BernoulliLikelihood()
        case "gaussian":
            return GaussianLikelihood(image_shape[0])
        case "discretized_logistic":
            return DiscretizedLogisticLikelihood(image_shape[0])
