"""LeNet-5 (LeCun et al. 1998) with ReLU and max pooling: 61,706 weights, 84 features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from latentserve_training.data import Split

IMAGE_SHAPE = (1, 28, 28)
CLASSES = 10
FEATURES = 84
_LEARNING_RATE = 2e-3


class LeNet(nn.Module):
    """Images float32 [batch, 1, 28, 28] in [0, 1] to logits [batch, 10], by way of 84 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels=1, out_channels=6, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # [batch, 6, 14, 14]
            nn.Conv2d(in_channels=6, out_channels=16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # [batch, 16, 5, 5]
            nn.Flatten(),
            nn.Linear(in_features=400, out_features=120),
            nn.ReLU(),
            nn.Linear(in_features=120, out_features=FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(in_features=FEATURES, out_features=CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """The features that the classes are told from, float32 [batch, 84]."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.head(self.features(images))
        return logits


def seeded_lenet(seed: int) -> LeNet:
    """A LeNet whose weights are drawn with `seed`; torch's global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LeNet()


def train_lenet(network: LeNet, split: Split, *, epochs: int, batch_size: int, seed: int) -> Iterator[int]:
    """Train on `split`, which has labels, yielding the number of epochs done after every one.

    Adam, its step size falling from 2e-3 to 0 along a cosine; the order of the images comes from `seed`.
    """
    assert split.labels is not None, "training a classifier takes labels"
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    batches = -(-len(split) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * batches)
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(split)))
        network.train()
        bar = tqdm(torch.split(order, batch_size), desc=f"LeNet {epoch + 1}/{epochs}", leave=False, disable=None)
        for rows in bar:
            loss = functional.cross_entropy(network(images[rows].float() / 255), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()
        yield epoch + 1
