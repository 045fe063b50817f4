"""A trained model's graphs as torch modules with the inputs and outputs of a bundle, and their plans."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentserve_training.export.plan import Arrays, GraphPlan
from latentserve_training.models import Vae
from latentserve_training.models.model import GenerativeModel

_LEVELS = 255


def in_range(image: Tensor) -> Tensor:
    """The image clipped to [0, 1], since onnxruntime's Tanh and Sigmoid, unlike torch's, may round beyond 1.

    NaN stays NaN, so that every check still sees it.
    """
    return image.clamp(0, 1)


def quantized(image: Tensor) -> Tensor:
    """round-half-even(255 * image) as uint8."""
    return torch.round(_LEVELS * image).to(torch.uint8)


class EncoderGraph(nn.Module):
    """Images float32 [batch, channels, height, width] in [0, 1] to the posterior's mean and log-variance.

    A conditional model's graph has labels, int64 [batch], as its second input.
    """

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, float32 [batch, latent_dim]."""
        return self.model.encode(image, label)


class DecoderGraph(nn.Module):
    """Latents float32 [batch, latent_dim], with labels as EncoderGraph, to images in [0, 1] and as uint8."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images float32 [batch, channels, height, width], and the same as uint8."""
        image = in_range(self.model.decode(latent, label))
        return image, quantized(image)


class LikelihoodDecoderGraph(nn.Module):
    """A DecoderGraph with the likelihood's output beside the image: logits, or log-scales."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Images float32, images uint8, and float32 logits or log-scales, each [batch, channels, height, width]."""
        parameters = self.model.decode_parameters(latent, label)
        image = in_range(parameters.mean)
        beside = parameters.logits if parameters.log_scale is None else parameters.log_scale
        return image, quantized(image), beside


@dataclass(frozen=True, kw_only=True)
class TorchPlan(GraphPlan):
    """The plan of a graph that is exported from torch."""

    module: nn.Module
    """Takes the example's tensors in their order, and returns the outputs in theirs."""

    def compute(self, inputs: Arrays) -> Arrays:
        """The module's outputs, by name."""
        with torch.no_grad():
            outputs = self.module(*self.tensors(inputs))
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, outputs, strict=True)}

    @staticmethod
    def tensors(inputs: Arrays) -> tuple[Tensor, ...]:
        """`inputs` as the module takes them."""
        return tuple(torch.from_numpy(array) for array in inputs.values())


def plan_graphs(model: GenerativeModel, images: Tensor, latents: Tensor) -> list[TorchPlan]:
    """The graphs of `model`; `images` [n, channels, height, width] in [0, 1] and `latents` [n, latent_dim] check it.

    A conditional model's graphs are checked with every label in turn.
    """
    labels = model.every_label(len(latents))
    condition: Arrays = {} if labels is None else {"label": labels.numpy()}
    latent: Arrays = {"latent": latents.numpy(), **condition}
    outputs = ("image", "image_uint8")
    if not isinstance(model, Vae):
        return [TorchPlan(role="decoder", module=DecoderGraph(model), example=latent, outputs=outputs)]
    beside = "logits" if model.likelihood.name == "bernoulli" else "log_scale"
    image: Arrays = {"image": images.numpy(), **condition}
    return [
        TorchPlan(role="encoder", module=EncoderGraph(model), example=image, outputs=("mean", "log_variance")),
        TorchPlan(role="decoder", module=LikelihoodDecoderGraph(model), example=latent, outputs=(*outputs, beside)),
    ]
