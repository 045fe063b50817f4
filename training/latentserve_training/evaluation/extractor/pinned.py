"""The pinned extractor: its weights on disk, and the features and classes it computes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from latentserve_training.errors import RunError
from latentserve_training.evaluation.classifier import Classifier
from latentserve_training.evaluation.extractor.lenet import LeNet

WEIGHTS = Path(__file__).parent / "lenet.safetensors"
_ROWS = 1000


@dataclass(frozen=True)
class Extractor:
    """A LeNet and the digest of its weights: distances between features compare only where the digest is the same."""

    network: LeNet
    sha256: str
    """Digest of the weights' file, in hexadecimal."""

    @classmethod
    def read(cls, path: Path = WEIGHTS) -> Self:
        """The extractor whose weights are in `path`, by default the pinned one.

        Raises:
            RunError: the file is missing or holds other weights.
        """
        try:
            content = path.read_bytes()
            network = LeNet()
            network.load_state_dict(load(content))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise RunError(f"{path}: not the weights of a feature extractor: {error}") from error
        return cls(network.eval().requires_grad_(False), hashlib.sha256(content).hexdigest())

    @property
    def classifier(self) -> Classifier:
        """The same network as a classifier."""
        return Classifier(self.network)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 [n, 84] of images uint8 [n, 1, 28, 28]."""
        return torch.cat([self.network.features(rows.float() / 255) for rows in torch.split(images, _ROWS)])


def write_weights(network: LeNet, path: Path) -> str:
    """Write the weights of `network` to `path`; returns the file's SHA-256 in hexadecimal."""
    content = save(network.state_dict())
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
