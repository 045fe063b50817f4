"""Buffers on the device for runs of one batch size.

A run through a binding copies its inputs into buffers that were allocated once and its outputs out of them, and
allocates nothing on the device itself. The addresses never change, which CUDA graphs demand. onnxruntime's Python
package offers no page-locked host memory for its built-in CUDA provider, so copies go through the driver's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from latentserve_server.engine.device import Device, Placement
from latentserve_server.engine.tensor_spec import TensorSpec
from latentserve_server.errors import EngineFailure


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor on the device; what it holds changes with every run of a graph that it is bound to."""

    value: onnxruntime.OrtValue
    rows: int

    def __len__(self) -> int:
        """Rows, as of an array."""
        return self.rows


class Binding:
    """Runs of exactly `rows` rows, from the thread that made it."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        rows: int,
        placement: Placement,
        shared: Mapping[str, Buffer],
    ) -> None:
        """Allocate a buffer for every output, and for every input that none is `shared` for.

        Raises:
            Exception: onnxruntime's, where the device has no room for them.
        """
        self._session = session
        self._fresh = placement.device is not Device.CPU
        """Whether `OrtValue.numpy` copies; on the CPU it shows the buffer itself."""
        self._ports = {spec.name: spec for spec in inputs}
        self._rows = rows
        own = [spec for spec in inputs if spec.name not in shared]
        self.size_bytes = rows * sum(spec.row_bytes for spec in (*own, *outputs))
        """Bytes of the buffers that it allocated."""
        self._binding = session.io_binding()
        self._inputs = {spec.name: _allocate(spec, rows, placement) for spec in own}
        self._inputs |= {name: buffer.value for name, buffer in shared.items()}
        self._outputs = {spec.name: _allocate(spec, rows, placement) for spec in outputs}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(
        self,
        inputs: Mapping[str, NDArray[Any] | Buffer],
        outputs: Sequence[str],
        options: onnxruntime.RunOptions,
    ) -> dict[str, NDArray[Any]]:
        """The named outputs, in memory that is the caller's.

        Raises:
            EngineFailure: an input is missing, or is not what the graph takes. Exception: onnxruntime's.
        """
        if inputs.keys() != self._inputs.keys():
            raise EngineFailure(f"the inputs are {sorted(inputs)} where {sorted(self._inputs)} are bound")
        for name, value in inputs.items():
            self._fill(name, value)
        self._session.run_with_iobinding(self._binding, options)
        arrays = {name: self._outputs[name].numpy() for name in outputs}
        return arrays if self._fresh else {name: array.copy() for name, array in arrays.items()}

    def output(self, name: str) -> Buffer:
        """The buffer of an output, for another graph on the same device to take."""
        return Buffer(self._outputs[name], self._rows)

    def _fill(self, name: str, value: NDArray[Any] | Buffer) -> None:
        if isinstance(value, Buffer):
            if value.value is not self._inputs[name]:
                raise EngineFailure(f"input {name!r} is a buffer that is not bound")
            return  # it holds the rows already
        spec = self._ports[name]
        shape = (self._rows, *spec.shape)
        if value.dtype != spec.dtype or value.shape != shape:  # onnxruntime would compare the bytes' number alone
            raise EngineFailure(f"input {name!r} is {value.dtype} {value.shape} where {spec.dtype} {shape} is bound")
        self._inputs[name].update_inplace(value)


def _allocate(spec: TensorSpec, rows: int, placement: Placement) -> onnxruntime.OrtValue:
    shape = [rows, *spec.shape]
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, spec.dtype.type, placement.device, placement.index)
