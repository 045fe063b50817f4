"""Dynamic loss scaling, which keeps gradients within float16's range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

_START = 2.0**16
_LEAST = 1.0
_GROWTH_STEPS = 2000


@dataclass
class LossScale:
    """The factor of one phase's loss before its backward pass, by which its gradients are then divided.

    In float16 it starts at 2^16, halves where a gradient overflows, and doubles after 2000 steps without (Micikevicius
    et al. 2017, arXiv:1710.03740, section 3.2; the numbers are torch.amp.GradScaler's). In other precisions it stays 1.

    Every phase has its own. A discriminator that pays for its slopes overflows at scales that its generator's smaller
    gradients still need, the two do not move equally often, and one's overflow is no reason to skip the other's step.

    GradScaler itself has every process look for overflows among its own gradients. Here the norm of their average
    decides, which is the same in all of them, so that they skip a step together or not at all.
    """

    adapts: bool
    factor: float = 1.0
    steps: int = 0
    """Steps taken since the factor changed."""

    @classmethod
    def first(cls, precision: str) -> LossScale:
        """The scale of a run's first step."""
        half = precision == "float16"
        return cls(adapts=half, factor=_START if half else 1.0)

    def unscale(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Unscale the gradients of `parameters` in place; returns them."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.adapts:
            for gradient in gradients:
                gradient.div_(self.factor)
        return gradients

    def overflows(self, norm: float) -> bool:
        """Adapt to the norm of an unscaled gradient; returns whether its step must be skipped.

        Not finite at a scale of 1, it is not skipped: the scale magnifies nothing there, so that the gradient overflows
        by itself, and smaller scales would do no more than hide it. A run thus skips 16 steps in a row at the most.
        """
        if not self.adapts:
            return False
        if not math.isfinite(norm) and self.factor > _LEAST:
            self.factor, self.steps = self.factor / 2, 0
            return True
        self.steps += 1
        if self.steps == _GROWTH_STEPS:
            self.factor, self.steps = self.factor * 2, 0
        return False
