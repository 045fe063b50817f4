"""The device and the precision of a run, and the launch of its processes by Fabric."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentserve_training.errors import ConfigError
from latentserve_training.run.distributed import Processes

Device = Literal["auto", "cpu", "cuda"]
ComputedPrecision = Literal["float32", "bfloat16", "float16"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Accelerator:
    """A process's device, the precision it computes in, and the processes that it trains with."""

    device: torch.device
    precision: ComputedPrecision
    processes: Processes

    def autocast(self) -> AbstractContextManager[object]:
        """While entered, operations compute in the precision where they can; nothing scales their gradients."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor on the device."""
        return tensor.to(self.device, non_blocking=True)


def make_accelerator(device: Device, precision: Precision, devices: int) -> Accelerator:
    """An accelerator on one of `devices` devices, one process each; "auto" takes CUDA if there is any.

    Started by torchrun, the processes are there and torchrun's number counts. Otherwise this process is the first, and
    starts the others with its own command line.

    Raises:
        ConfigError: CUDA is asked for and there is none, or more devices than there are.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.device is cuda, but no CUDA device is available; allowed are auto and cpu")
    if device != "cpu" and devices > torch.cuda.device_count() > 0:
        raise ConfigError(f"trainer.devices is {devices}, but there are {torch.cuda.device_count()} CUDA devices")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and devices > (os.cpu_count() or devices):
        raise ConfigError(f"trainer.devices is {devices}, but there are {os.cpu_count()} processors")
    nodes, local = 1, devices
    if torch.distributed.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
    if nodes * local > 1:
        processes = _launch(device, nodes, local)
    else:
        processes = Processes(torch.device(device, 0) if device == "cuda" else torch.device(device))
    return Accelerator(processes.device, resolve_precision(precision, device), processes)


def _launch(device: Literal["cpu", "cuda"], nodes: int, local: int) -> Processes:
    """The processes of a run on `local` devices of each node; returns in all of them, connected with one another."""
    from lightning.fabric import Fabric  # 3 s of imports, which a run in one process does without

    # Its remarks go through whichever of the two was imported last, and both set a level of their own.
    for library in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(library).setLevel(logging.WARNING)
    fabric = Fabric(accelerator=device, devices=local, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return Processes(fabric.device, count=fabric.world_size, rank=fabric.global_rank)


def resolve_precision(precision: Precision, device_type: str) -> ComputedPrecision:
    """`precision`, or on "auto" bfloat16 where a device of that type, "cpu" or "cuda", computes in it.

    Never float16, in which a step may have to be skipped.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if _computes_in_bfloat16(device_type) else "float32"


def _computes_in_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
