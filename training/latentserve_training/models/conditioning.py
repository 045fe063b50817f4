"""Labels as a network's input: appended to a vector, or as a channel of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentserve_training.errors import ConfigError
from latentserve_training.models.model import ImageShape


class LabelledVector(nn.Module):
    """`network` on vectors [batch, n] with an embedding of their labels, [batch, label_dim], appended."""

    def __init__(self, network: nn.Module, *, label_count: int, label_dim: int) -> None:
        super().__init__()
        self.network = network
        self.embedding = nn.Embedding(num_embeddings=label_count, embedding_dim=label_dim)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """The network's output for both."""
        output: Tensor = self.network(torch.cat((vectors, self.embedding(labels)), dim=1))
        return output


class LabelledImage(nn.Module):
    """`network` on images [batch, channels, height, width] with a learned picture of their label as a channel."""

    def __init__(self, network: nn.Module, *, label_count: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.network = network
        self.plane = (1, *image_shape[1:])
        self.embedding = nn.Embedding(num_embeddings=label_count, embedding_dim=image_shape[1] * image_shape[2])

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The network's output for both."""
        planes = self.embedding(labels).view(-1, *self.plane)
        output: Tensor = self.network(torch.cat((images, planes), dim=1))
        return output


def require_labels(family: str, label_count: int) -> None:
    """Require data with labels.

    Raises:
        ConfigError: the data has fewer than two labels.
    """
    if label_count < 2:
        raise ConfigError(
            f"model.family is {family}, which needs images of at least 2 labels, but the data has {label_count}; mnist "
            "and digits have 10, and in a folder every subfolder is one, unless an image lies outside of them"
        )
