"""One ONNX graph, opened on one device. The only importer of onnxruntime.

onnxruntime falls back to the CPU silently in three places: when the provider is missing at creation, when creating the
session fails (the Python class then retries), and inside `run`. `enable_fallback=0` closes the last two; the first is
closed by looking at what the session really uses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from latentserve_server.errors import BundleError, DeviceError, EngineFailure

_logger = logging.getLogger(__name__)

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int64)": np.dtype(np.int64),
}

_FATAL = 4


class Device(StrEnum):
    """Where graphs run."""

    CPU = "cpu"
    CUDA = "cuda"


_PROVIDERS = {Device.CPU: "CPUExecutionProvider", Device.CUDA: "CUDAExecutionProvider"}
_CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # the default tries every algorithm for every new shape
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",  # float32 products are exact to 1e-3 only with it
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph, without its batch axis."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Engine:
    """A graph that is ready to run, from one thread at a time."""

    def __init__(self, model: bytes, device: Device, *, cpu_threads: int) -> None:
        """Open the serialized ONNX `model`; `cpu_threads` bounds the threads of one run on the CPU.

        Raises:
            BundleError: onnxruntime cannot open the model, or axis 0 of a tensor is not a free batch axis.
            DeviceError: onnxruntime opened the model on another device than the one asked for.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = cpu_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves the event loop
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        provider = _PROVIDERS[device]
        try:
            self._session = onnxruntime.InferenceSession(
                model,
                options,
                providers=[(provider, _CUDA_OPTIONS if device is Device.CUDA else {})],
                enable_fallback=0,
            )
        except Exception as error:
            raise BundleError(f"onnxruntime cannot open it: {_first_line(error)}") from error
        self._run_options = onnxruntime.RunOptions()
        self.device = device
        self._check_placement(provider)
        self.inputs = tuple(_port(value) for value in self._session.get_inputs())
        self.outputs = tuple(_port(value) for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The named outputs for the rows of inputs.

        Raises:
            EngineFailure: the graph did not run.
        """
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL  # an error is raised; onnxruntime would print it, too
        try:
            arrays = self._session.run(list(outputs), dict(inputs), self._run_options)
        except Exception as error:
            raise EngineFailure(_first_line(error)) from error
        return dict(zip(outputs, arrays, strict=True))

    def cancel(self) -> None:
        """End the run under way at its next operator, as an EngineFailure. From any thread; harmless without a run."""
        self._run_options.terminate = True

    def _check_placement(self, provider: str) -> None:
        """Refuse a session that does not use the provider; say which operators it leaves to another one."""
        used = self._session.get_providers()[0]
        placed = [
            (subgraph.ep_name, node.op_type)
            for subgraph in self._session.get_provider_graph_assignment_info()
            for node in subgraph.get_nodes()
        ]
        elsewhere = sorted({operator for name, operator in placed if name != provider})
        if used != provider or (placed and all(name != provider for name, _ in placed)):
            raise DeviceError(f"onnxruntime runs the graph on {used} where {provider} was asked for")
        if elsewhere:
            _logger.warning("%s leaves operators to the CPU: %s", provider, ", ".join(elsewhere))


def choose_device(wanted: str) -> tuple[Device, str]:
    """The device for "auto", "cpu" or "cuda", and why.

    Raises:
        DeviceError: "cuda" was asked for and does not work here.
    """
    if wanted == Device.CPU:
        return Device.CPU, "asked for"
    problem = _cuda_problem()
    if problem is None:
        return Device.CUDA, "asked for" if wanted == Device.CUDA else "a CUDA device works"
    if wanted == Device.CUDA:
        raise DeviceError(f"--device cuda: {problem}")
    return Device.CPU, problem


def runtime_version() -> str:
    """onnxruntime's version."""
    return str(onnxruntime.__version__)


def _cuda_problem() -> str | None:
    """Why CUDA cannot be used, found by using it."""
    if _PROVIDERS[Device.CUDA] not in onnxruntime.get_available_providers():
        return "this build of onnxruntime has no CUDA provider; install latentserve-server[gpu]"
    try:
        onnxruntime.preload_dlls()
        onnxruntime.OrtValue.ortvalue_from_shape_and_type([1], np.float32, "cuda", 0)
    except Exception as error:
        return f"the CUDA provider does not load: {_first_line(error)}"
    return None


def _port(value: Any) -> Port:
    if not value.shape or isinstance(value.shape[0], int):
        raise BundleError(f"tensor {value.name}: axis 0 is not a free batch axis (shape {value.shape})")
    if not all(isinstance(extent, int) for extent in value.shape[1:]):
        raise BundleError(f"tensor {value.name}: only axis 0 may be free (shape {value.shape})")
    if value.type not in _DTYPES:
        raise BundleError(f"tensor {value.name}: {value.type} is not one of {', '.join(_DTYPES)}")
    return Port(value.name, _DTYPES[value.type], tuple(value.shape[1:]))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
