"""What the trainer, the evaluation and the export know of a model, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

ImageShape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Phase:
    """One optimizer and the loss it descends; a training step runs the phases of a model in order.

    `loss` takes float32 images [batch, channels, height, width] in [0, 1] and returns the scalar to descend and the
    scalars to log, by name. Only the parameters of `optimizer` receive its gradient.
    """

    name: str
    optimizer: Optimizer
    loss: Callable[[Tensor], tuple[Tensor, Mapping[str, Tensor]]]


class GenerativeModel(nn.Module, ABC):
    """A model with a standard normal prior over a latent space and a decoder from latents to images in [0, 1]."""

    selection: ClassVar[str | None]
    """The name of the validation result whose lowest value marks the best checkpoint; None: the last one is it."""

    def __init__(self, *, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.latent_dim = latent_dim

    @abstractmethod
    def phases(self) -> list[Phase]:
        """New optimizers over this model's parameters, each with the loss it descends."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Images [batch, channels, height, width] in [0, 1] of latents [batch, latent_dim]."""

    @abstractmethod
    def validate(self, images: Tensor, generator: torch.Generator) -> dict[str, float]:
        """How good the model is on images uint8 [n, channels, height, width], by name; noise comes from `generator`."""

    def diagnose(self, results: Mapping[str, float], step: int) -> None:
        """Judge an epoch's mean losses and validation results after `step` steps.

        Raises:
            CollapsedError: training further would not help.
        """
