"""Communication between the processes that train one model: averages, shares, turns.

Gradients are averaged after each backward pass, in one message, instead of by wrapping the model: a GAN descends two
losses through one another's networks, which a wrapper that waits for the gradients of every weight cannot follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from latentserve_training.errors import ConfigError, RunError

T = TypeVar("T")


class Processes:
    """The communication between the processes of one run; with a single one every call returns its argument."""

    def __init__(self, fabric: Fabric) -> None:
        """`fabric` must be launched."""
        self._fabric = fabric
        self.count: int = fabric.world_size
        self.rank: int = fabric.global_rank

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the first process, which writes files and prints."""
        return self.rank == 0

    def require_shares(self, batch_size: int) -> None:
        """Raise ConfigError unless a batch divides evenly among the processes."""
        if batch_size % self.count:
            raise ConfigError(
                f"trainer.batch_size is {batch_size}; {self.count} devices need a multiple of {self.count}"
            )

    def share(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return rows[self.rank :: self.count]

    def seed_rank(self, seed: int) -> None:
        """Seed every process but the first by its rank, so that no two draw the same noise."""
        if self.rank:
            torch.manual_seed(int(np.random.SeedSequence((seed, self.rank)).generate_state(1, np.uint64)[0]))

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace float tensors by their means over the processes, all in one message."""
        floats = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.count == 1 or not floats:
            return
        flat = torch.cat([tensor.flatten() for tensor in floats])
        means = torch.as_tensor(self._fabric.all_reduce(flat, reduce_op="mean"))
        for tensor, mean in zip(floats, torch.split(means, [tensor.numel() for tensor in floats]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self.count == 1:
            return dict(values)
        means = self._fabric.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64), reduce_op="mean")
        return dict(zip(values, torch.as_tensor(means).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in one of the processes."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, of one shape, in the order of their ranks."""
        if self.count == 1:
            return [tensor]
        mine = self._fabric.to_device(tensor)
        tensors = [torch.empty_like(mine) for _ in range(self.count)]
        torch.distributed.all_gather(tensors, mine)
        return tensors

    def on_rank_zero(self, act: Callable[[], T]) -> T | None:
        """Call `act` on rank zero while the others wait; returns its result there, and None elsewhere.

        Raises:
            RunError: in every process, if it fails in the first.
        """
        failure, outcome = "", None
        if self.is_rank_zero:
            try:
                outcome = act()
            except (RunError, OSError) as error:
                if self.count == 1:
                    raise
                failure = str(error)
        if self.count > 1 and (failure := str(self._fabric.broadcast(failure))):
            raise RunError(failure)
        return outcome
