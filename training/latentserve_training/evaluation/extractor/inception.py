"""Inception v3 as FID has it: torch-fidelity's network, with weights from a file that the user names."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentserve_training.errors import ConfigError, DataError

CHANNELS = 3
_LAYER = "2048"
"""torch-fidelity's name of the last pooling, whose 2,048 values FID is defined by."""
_ROWS = 32


@dataclass(frozen=True)
class Inception:
    """The network, and the digest of its weights: distances compare only where the digest is the same."""

    network: nn.Module
    sha256: str
    """Digest of the weights' file, in hexadecimal."""

    @classmethod
    def read(cls, path: Path, sha256: str) -> Self:
        """The network with the weights in `path`, a file of this digest.

        Raises:
            DataError: the file cannot be read, has another digest, or holds no such weights.
            ConfigError: the package torch-fidelity cannot be loaded.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"--inception-weights {path}: {error.strerror}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise DataError(f"--inception-weights {path} has the SHA-256 {found}; it must have {sha256}")
        return cls(_network(content, path), found)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 [n, 2048] of images uint8 [n, 3, height, width], enlarged to 299x299 by the network."""
        bar = tqdm(torch.split(images, _ROWS), desc="Inception", leave=False, disable=None)
        return torch.cat([self.network(rows)[0] for rows in bar])


def _network(content: bytes, path: Path) -> nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # of a torchvision that is built for another torch
        raise ConfigError(
            f"--inception-weights needs the package torch-fidelity, which cannot be loaded ({error}); install "
            "latentserve-training[inception]"
        ) from error
    try:
        # torch-fidelity would run code that a file holds; what is handed on has been read without.
        with warnings.catch_warnings(action="ignore"):  # of formats that it then refuses
            weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        tensors = io.BytesIO()
        torch.save(weights, tensors)
        tensors.seek(0)
        network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", [_LAYER], tensors)
    except (RuntimeError, pickle.UnpicklingError, EOFError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"--inception-weights {path}: not the weights of torch-fidelity's Inception") from error
    return network
