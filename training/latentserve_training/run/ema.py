"""An exponential moving average of a model's weights, with a warm-up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from latentserve_training.models import GenerativeModel


def make_ema(model: GenerativeModel, decay: float) -> AveragedModel:
    """A copy of `model` whose every update moves it towards the model by 1 - min(decay, (1 + t) / (10 + t)).

    Buffers, such as batch normalisation's statistics, are averaged as well; integers are copied.
    """
    return AveragedModel(model, multi_avg_fn=_moving_average(decay), use_buffers=True)


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], count: Tensor | int) -> None:
        updates = int(count)
        weight = 1 - min(decay, (1 + updates) / (10 + updates))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, weight)
            else:
                average.copy_(current)

    return update
