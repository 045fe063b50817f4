"""One ONNX graph on one device; alone imports onnxruntime.

`device.py` says which device and how it is set up, `session.py` opens and runs a graph, `binding.py` keeps the buffers
of its runs on the device.
"""

from latentserve_server.engine.binding import Buffer
from latentserve_server.engine.device import (
    Cpu,
    Cuda,
    Device,
    Placement,
    choose_placement,
    runtime_version,
)
from latentserve_server.engine.session import Engine
from latentserve_server.engine.tensor_spec import Arrays, TensorSpec

__all__ = [
    "Arrays",
    "Buffer",
    "Cpu",
    "Cuda",
    "Device",
    "Engine",
    "Placement",
    "TensorSpec",
    "choose_placement",
    "runtime_version",
]
