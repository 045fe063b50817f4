"""Communication between the processes that train one model: averages, shares, turns.

Gradients are averaged after each backward pass, in one message, instead of by wrapping the model: a GAN descends two
losses through one another's networks, which a wrapper that waits for the gradients of every weight cannot follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from latentserve_training.errors import ConfigError, RunError

T = TypeVar("T")


class Processes:
    """The communication between the processes of one run; with a single one every call returns its argument."""

    def __init__(self, device: torch.device, *, count: int = 1, rank: int = 0) -> None:
        """This process is number `rank` of `count`, which torch.distributed connects; it computes on `device`."""
        self.device = device
        self.count = count
        self.rank = rank

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
        means = torch.split(self._mean(flat), [tensor.numel() for tensor in floats])
        for tensor, mean in zip(floats, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self.count == 1:
            return dict(values)
        means = self._mean(torch.tensor(list(values.values()), dtype=torch.float64, device=self.device))
        return dict(zip(values, means.tolist(), strict=True))

    def _mean(self, tensor: Tensor) -> Tensor:
        """The mean of the processes' tensors, in place."""
        torch.distributed.all_reduce(tensor)
        return tensor.div_(self.count)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in one of the processes."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, of one shape, in the order of their ranks."""
        if self.count == 1:
            return [tensor]
        mine = tensor.to(self.device)
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
        if self.count > 1:
            told = [failure]
            torch.distributed.broadcast_object_list(told, src=0)
            if told[0]:
                raise RunError(told[0])
        return outcome

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        if self.count > 1:
            torch.distributed.barrier()
