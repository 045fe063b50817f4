"""Images decoded from latents as they are served, in 8 bits and little memory."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from latentserve_training.image_grid import to_uint8
from latentserve_training.models import GenerativeModel

_ROWS = 250


@torch.no_grad()
def decode(model: GenerativeModel, latents: Tensor, labels: Tensor | None, what: str) -> Tensor:
    """Images uint8 [n, channels, height, width] of latents float32 [n, latent_dim]; `what` labels the progress bar.

    A conditional model needs labels int64 [n].
    """
    parts = tqdm(torch.split(torch.arange(len(latents)), _ROWS), desc=what, leave=False, disable=None)
    images = (model.decode(latents[rows], None if labels is None else labels[rows]) for rows in parts)
    return torch.cat([torch.from_numpy(to_uint8(part)) for part in images])
