"""A small seeded classifier that sorts samples by the dataset's own classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from latentserve_training.data import Split

_PASSES = 10
_BATCH = 128
_LEARNING_RATE = 1e-3
_INFERENCE_ROWS = 1000


@dataclass(frozen=True)
class Classifier:
    """Two strided convolutions and two dense layers. It measures; it takes no part in training or choosing a model."""

    network: nn.Module

    @classmethod
    def fit(cls, split: Split, seed: int, fewest_steps: int) -> Self:
        """Train on `split`, which has labels, by Adam on 128 images a step, all randomness from `seed`.

        It takes `fewest_steps` steps, or as many as draw each image ten times on average where those are more.
        """
        assert split.labels is not None, "a classifier needs labels"
        labels = torch.from_numpy(split.labels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(split.images.shape[1:], classes=int(labels.max()) + 1)
        optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
        rows = np.random.default_rng(seed)
        steps = max(fewest_steps, -(-_PASSES * len(split) // _BATCH))
        for _ in tqdm(range(steps), desc="classifier", leave=False, disable=None):
            batch = torch.from_numpy(rows.integers(len(split), size=_BATCH))
            logits = network(torch.from_numpy(split.images)[batch].float() / 255)
            loss = functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return cls(network.eval())

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities float32 [n, classes] of images float32 [n, channels, height, width] in [0, 1]."""
        return torch.cat([self.network(rows).softmax(1) for rows in torch.split(images, _INFERENCE_ROWS)])

    def accuracy(self, split: Split) -> float:
        """The share of `split`'s images that are classified correctly."""
        assert split.labels is not None, "accuracy needs labels"
        guesses = self.probabilities(torch.from_numpy(split.images).float() / 255).argmax(1)
        return (guesses == torch.from_numpy(split.labels)).double().mean().item()


def _network(image_shape: tuple[int, ...], classes: int) -> nn.Module:
    channels, height, width = image_shape
    features = 32 * -(-height // 4) * -(-width // 4)
    return nn.Sequential(
        nn.Conv2d(in_channels=channels, out_channels=16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(in_channels=16, out_channels=32, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(in_features=features, out_features=128),
        nn.ReLU(),
        nn.Linear(in_features=128, out_features=classes),
    )
