"""The interface of every model: training phases, decoding, validation and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

ImageShape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Batch:
    """The images and labels of a training step."""

    images: Tensor
    """float32 [batch, channels, height, width] in [0, 1]."""

    labels: Tensor | None = None
    """int64 [batch] for a conditional model, otherwise None."""

    step: int = 0
    """Training steps done before this one."""

    epoch: float = 0.0
    """Epochs done, in fractions; what changes with time is a function of it."""


@dataclass(frozen=True)
class Phase:
    """One optimizer and the loss it descends; a training step runs the phases of a model in order.

    `loss` returns the scalar to descend and the scalars to log, by name. Only the parameters of `optimizer` receive its
    gradient. A phase runs in every `every`-th step: of two players, the one that moves more often sets the pace.
    """

    name: str
    optimizer: Optimizer
    loss: Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
    every: int = 1
    period: int = 1
    """An extra cost, such as a penalty, is due in every `period`-th step."""

    def is_due(self, step: int) -> bool:
        """Whether the phase runs in the step that comes after `step` others."""
        return (step + 1) % self.every == 0


@dataclass(frozen=True)
class Validation:
    """The results of a validation."""

    results: dict[str, float]
    """One number each, by name."""

    series: dict[str, list[float]] = field(default_factory=dict)
    """One number a latent dimension each, by name; units stand in the name."""


class GenerativeModel(nn.Module, ABC):
    """A model with a standard normal prior over a latent space and a decoder from latents to images in [0, 1].

    Latents are rows of `latent_dim` values in every method. `latent_shape` is the shape that a row stands for, in
    row-major order; (latent_dim,) where it stands for a vector.

    `label_count` is the number of labels that a conditional model knows, 0 for any other. A conditional model's methods
    need labels, int64 [batch] from 0 to label_count - 1; the others pass over them.
    """

    selection: str | None
    """The name of the validation result whose lowest value marks the best checkpoint; None if the last is best."""

    def __init__(
        self,
        *,
        image_shape: ImageShape,
        latent_dim: int,
        latent_shape: tuple[int, ...] | None = None,
        label_count: int = 0,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.latent_dim = latent_dim
        self.latent_shape = latent_shape or (latent_dim,)
        self.label_count = label_count

    @abstractmethod
    def phases(self) -> list[Phase]:
        """New optimizers over this model's parameters, each with the loss it descends."""

    @abstractmethod
    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images [batch, channels, height, width] in [0, 1] of latents [batch, latent_dim].

        Raises:
            ValueError: the model is conditional and there are no labels.
        """

    @abstractmethod
    def validate(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> Validation:
        """How good the model is on images uint8 [n, channels, height, width]; noise comes from `generator`.

        The images may lie elsewhere than the model, which is where the generator is.
        """

    def diagnose(self, results: Mapping[str, float], step: int) -> list[str]:
        """Warnings for the user about an epoch's mean losses and validation results, after `step` steps.

        Raises:
            CollapsedError: training further would not help.
        """
        return []

    def collapse(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> str:
        """How the samples have collapsed compared with images, as `validate` takes them; empty if they have not."""
        return ""

    def every_label(self, count: int, device: torch.device | None = None) -> Tensor | None:
        """The labels 0, 1, ... in turn, int64 [count]; None for a model without labels."""
        return torch.arange(count, device=device) % self.label_count if self.label_count else None

    def labels_of(self, labels: NDArray[np.int64] | None) -> Tensor | None:
        """The data's labels, int64 [n], as the model takes them; None for a model without labels."""
        if not self.label_count:
            return None
        assert labels is not None, "a model is built conditional only where the data has labels"
        return torch.from_numpy(labels)

    def _run(self, network: nn.Module, rows: Tensor, labels: Tensor | None) -> Tensor:
        """`network` on `rows`, and on their labels where the model is conditional."""
        if self.label_count and labels is None:
            raise ValueError(f"this model is conditional: it needs labels, each from 0 to {self.label_count - 1}")
        output: Tensor = network(rows, labels) if self.label_count else network(rows)
        return output
