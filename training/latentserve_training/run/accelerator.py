"""The devices and the precision of a run, and the launch of its processes by Fabric."""

from __future__ import annotations

import os
from typing import Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.plugins import Precision as PrecisionPlugin
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from latentserve_training.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
ComputedPrecision = Literal["float32", "bfloat16", "float16"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def make_fabric(device: Device, precision: Precision, devices: int) -> Fabric:
    """Fabric on `devices` devices, one process each; "auto" takes CUDA if there is any.

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
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = environment.world_size() // local
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=nodes,
        strategy="ddp" if nodes * local > 1 else "auto",
        plugins=_plugin(resolve_precision(precision, device), device),
    )
    fabric.launch()
    return fabric


def resolve_precision(precision: Precision, device_type: str) -> ComputedPrecision:
    """`precision`, or on "auto" bfloat16 where a device of that type, "cpu" or "cuda", computes in it.

    Never float16, in which a step may have to be skipped.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if _computes_in_bfloat16(device_type) else "float32"


def _plugin(precision: ComputedPrecision, device_type: str) -> PrecisionPlugin:
    if precision == "float32":
        return PrecisionPlugin()
    if precision == "bfloat16":
        return MixedPrecision("bf16-mixed", device_type)
    # Asked for by name, Fabric gives a CPU bfloat16 instead. Its scaler is off: every phase scales its loss by itself.
    return MixedPrecision("16-mixed", device_type, torch.amp.GradScaler(device_type, enabled=False))


def _computes_in_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
