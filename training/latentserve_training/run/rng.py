"""The state of torch's random number generators in every process of a run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentserve_training.errors import RunError
from latentserve_training.run.distributed import Processes


def capture(processes: Processes, device: torch.device) -> dict[str, Tensor]:
    """The states uint8 [bytes] of the CPU's and, where used, the CUDA device's generator, by device and rank."""
    states = _by_rank("cpu", processes.gather(torch.get_rng_state()))
    if device.type == "cuda":
        states |= _by_rank("cuda", processes.gather(torch.cuda.get_rng_state(device)))
    return states


def restore(states: Mapping[str, Tensor], processes: Processes, device: torch.device) -> None:
    """Restore this process's generators to the states that `capture` saved.

    Raises:
        RunError: there were more processes then, or fewer.
    """
    before = sum(name.partition(".")[0] == "cpu" for name in states)
    if before != processes.count:
        raise RunError(f"the run was trained on {before} devices and cannot go on with {processes.count}")
    torch.set_rng_state(states[_name("cpu", processes.rank)])
    cuda = states.get(_name("cuda", processes.rank))
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)


def _by_rank(device: str, states: list[Tensor]) -> dict[str, Tensor]:
    return {_name(device, rank): state.cpu() for rank, state in enumerate(states)}


def _name(device: str, rank: int) -> str:
    return f"{device}.{rank}" if rank else device
