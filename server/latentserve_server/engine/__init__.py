"""Graphs opened and run on a device; alone imports onnxruntime."""

from latentserve_server.engine.device import Cpu, Cuda, Device, Placement, choose_placement, runtime_version
from latentserve_server.engine.engine import Arrays, Cancellation, Engine, TensorSpec

__all__ = [
    "Arrays",
    "Cancellation",
    "Cpu",
    "Cuda",
    "Device",
    "Engine",
    "Placement",
    "TensorSpec",
    "choose_placement",
    "runtime_version",
]
