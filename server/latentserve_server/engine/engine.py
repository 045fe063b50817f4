"""The engine: one ONNX graph opened on one device, and how it is run, alone or behind another.

onnxruntime falls back to the CPU silently in three places: when the provider is missing at creation, when creating the
session fails (the Python class then retries), and inside `run`. `enable_fallback=0` closes the last two; the first is
closed by looking at what the session really uses.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from latentserve.dtypes import GRAPH_TYPES
from latentserve.fixed_rows import in_runs_of
from latentserve_server.engine.device import Cpu, Cuda, Device, Placement, first_line
from latentserve_server.errors import BundleError, DeviceError, EngineFailure

_DTYPES = {kind.onnx: kind.dtype for kind in GRAPH_TYPES.values()}

_FATAL = 4

_NO_CAPTURE = -1
"""The graph id of a run that is neither captured nor replayed; 0 is onnxruntime's own, so captured ones begin at 1."""

Arrays = Mapping[str, NDArray[Any]]
"""Tensors of a graph by name; axis 0 of each counts rows."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a graph, without its batch axis."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor on the device; what it holds changes with every run of a graph that it is bound to."""

    value: onnxruntime.OrtValue
    rows: int

    def __len__(self) -> int:
        """Rows, as of an array."""
        return self.rows


class Cancellation:
    """Belongs to one run, so it is never too early for that run and never reaches another one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._actions: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Ask for the end. From any thread; harmless before the run, after it, and twice."""
        with self._lock:
            self._cancelled = True
            for action in self._actions:
                action()

    @contextmanager
    def calling(self, action: Callable[[], None]) -> Iterator[None]:
        """Call `action` when the end is asked for within the block; at once where it was before. It must not block."""
        with self._lock:
            self._actions.append(action)
            if self._cancelled:
                action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)


class Engine:
    """A graph that is ready to run, from one thread at a time, which is always the same one on CUDA."""

    def __init__(
        self,
        model: bytes,
        placement: Placement,
        batch_rows: int = 0,
        weights: Mapping[str, mmap.mmap] = MappingProxyType({}),
    ) -> None:
        """Open the serialized ONNX `model`, which takes `batch_rows` rows a run and no other number, or any where 0.

        `weights` are the contents of files that it names, which are not looked for; they are not kept.

        Raises:
            BundleError: onnxruntime cannot open the model, or axis 0 of a tensor is not a batch axis of such rows.
            DeviceError: onnxruntime opened the model on another device than the one asked for.
        """
        self.placement = placement
        self._session = _open(model, placement, weights)
        self.cpu_operators = self._check_placement()
        """Operators that the device leaves to the CPU, with the number of their nodes; onnxruntime prefers the CPU for
        those that compute shapes. Empty where the CPU is the device."""
        self.inputs = tuple(_spec(value, batch_rows) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value, batch_rows) for value in self._session.get_outputs())
        self._batch_rows = batch_rows
        self._bindings: dict[int, _Binding] = {}
        shares_rows = isinstance(placement, Cpu) and placement.portable and not batch_rows
        self._shares = placement.shares if isinstance(placement, Cpu) and shares_rows else None

    def bind(self, rows: int, shared: Mapping[str, Buffer] | None = None) -> None:
        """Keep buffers on the device for runs of exactly `rows` rows, which then copy instead of allocating.

        An input may share a buffer with an output of another engine of the same thread: then a run takes the buffer
        for what it holds, or an array, which is copied into it. On CUDA with graphs, the first such run captures the
        graph; nothing else may use the device meanwhile.

        Raises:
            EngineFailure: the device has no room for them.
        """
        try:
            self._bindings[rows] = _Binding(
                self._session, self.inputs, self.outputs, rows, self.placement, shared or {}
            )
        except Exception as error:
            raise EngineFailure(first_line(error)) from error

    def run(
        self,
        inputs: Mapping[str, NDArray[Any] | Buffer],
        outputs: Sequence[str],
        cancellation: Cancellation | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The named outputs for the rows of inputs. A buffer that is shared may stand for the array that it holds.

        Raises:
            EngineFailure: the graph did not run, or was cancelled; it ends at the next operator then.
        """
        rows = len(next(iter(inputs.values())))
        if self._batch_rows not in (0, rows):
            arrays = {name: value for name, value in inputs.items() if not isinstance(value, Buffer)}
            return in_runs_of(self._batch_rows, lambda part: self.run(part, outputs, cancellation), arrays)
        binding = self._bindings.get(rows)
        options = self._run_options(rows if binding else _NO_CAPTURE)

        def terminate() -> None:
            options.terminate = True

        try:
            with (cancellation or Cancellation()).calling(terminate):
                if binding is not None:
                    return binding.run(inputs, outputs, options)
                made = self._run_unbound(dict(inputs), list(outputs), options)
        except EngineFailure:
            raise
        except Exception as error:
            raise EngineFailure(first_line(error)) from error
        return dict(zip(outputs, made, strict=True))

    def shrink(self, rows: Arrays) -> None:
        """Give back the memory that runs have left behind, by one more run of a few rows of inputs.

        On CUDA none is given back: the addresses of what is bound and captured must not change.
        """
        if not isinstance(self.placement, Cpu):
            return
        options = self._run_options(_NO_CAPTURE)
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        taken = self._batch_rows or len(next(iter(rows.values())))
        few = {name: np.resize(array, (taken, *array.shape[1:])) for name, array in rows.items()}
        with suppress(Exception):  # of a build of onnxruntime that has no arena, where nothing was left behind
            self._session.run([self.outputs[0].name], few, options)

    def resident(self, output: str, rows: int) -> Buffer | None:
        """Where an output of the last run of so many rows lies on the device; None where they are not bound."""
        binding = self._bindings.get(rows)
        return None if binding is None else binding.output(output)

    def buffer_bytes(self, rows: int) -> int:
        """Bytes of the inputs and outputs of a run of `rows` rows, or of all that is bound, whichever is more."""
        bound = sum(binding.size_bytes for binding in self._bindings.values())
        return max(bound, rows * sum(spec.row_bytes for spec in (*self.inputs, *self.outputs)))

    def _run_unbound(
        self, inputs: Mapping[str, Any], outputs: Sequence[str], options: onnxruntime.RunOptions
    ) -> list[NDArray[Any]]:
        def run(rows: Mapping[str, Any]) -> list[NDArray[Any]]:
            arrays: list[NDArray[Any]] = self._session.run(outputs, rows, options)
            return arrays

        return run(inputs) if self._shares is None else self._shares.run(run, inputs)

    def _run_options(self, graph_id: int) -> onnxruntime.RunOptions:
        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL  # an error is raised; onnxruntime would print it, too
        if isinstance(self.placement, Cuda) and self.placement.graphs:
            options.add_run_config_entry("gpu_graph_id", str(graph_id))
        return options

    def _check_placement(self) -> Mapping[str, int]:
        """Refuse a session that does not use the provider; the operators that it leaves to another one."""
        provider = self.placement.provider
        used = self._session.get_providers()[0]
        placed = [
            (subgraph.ep_name, node.op_type)
            for subgraph in self._session.get_provider_graph_assignment_info()
            for node in subgraph.get_nodes()
        ]
        elsewhere = sorted(operator for name, operator in placed if name != provider)
        if used != provider or (placed and len(elsewhere) == len(placed)):
            raise DeviceError(f"onnxruntime runs the graph on {used} where {provider} was asked for")
        return {operator: elsewhere.count(operator) for operator in elsewhere}


class Pipeline:
    """Two graphs, one after the other: an output of the first is an input of the second.

    Its inputs are those of both but for that one; its outputs are those of both.
    """

    def __init__(self, first: Engine, second: Engine, link: tuple[str, str], *, resident: bool, codes: int = 0) -> None:
        """Both belong to one thread. `link` is the output and the input that takes it; `codes` it may be, if it is any.

        Where `resident`, the input shares the output's buffer in bound runs; else values, as all codes, go by the host.
        """
        self._first = first
        self._second = second
        self._output, self._input = link
        self._resident = resident
        self._codes = codes
        self._of_first = {spec.name for spec in first.outputs} - {spec.name for spec in second.outputs}
        self._taken = {spec.name for spec in first.inputs}
        self._beside = {spec.name for spec in second.inputs} - {self._input}

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """The named outputs for the rows of inputs.

        Raises:
            EngineFailure: one of the graphs did not run, or was cancelled.
        """
        rows = len(next(iter(inputs.values())))
        buffer = self._first.resident(self._output, rows) if self._resident else None
        wanted = {name for name in outputs if name in self._of_first} | ({self._output} if buffer is None else set())
        made = self._first.run({name: inputs[name] for name in self._taken}, sorted(wanted), cancellation)
        beside = {name: inputs[name] for name in self._beside}
        of_second = [name for name in outputs if name not in self._of_first]
        between = made[self._output] if buffer is None else buffer
        if self._codes:  # one outside of the codebook may fail the run of all rows; who asks for the output sees it
            between = np.where(((codes := made[self._output]) >= 0) & (codes < self._codes), codes, 0)
        return made | self._second.run({self._input: between, **beside}, of_second, cancellation)


class _Binding:
    """Runs of exactly `rows` rows, from the thread that made it, through buffers that stay on the device.

    A run copies its inputs into buffers that were allocated once and its outputs out of them, and allocates nothing on
    the device itself. The addresses never change, which CUDA graphs demand. onnxruntime's Python package offers no
    page-locked host memory for its built-in CUDA provider, so copies go through the driver's own.
    """

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
        self._specs = {spec.name: spec for spec in inputs}
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
        spec = self._specs[name]
        shape = (self._rows, *spec.shape)
        if value.dtype != spec.dtype or value.shape != shape:  # onnxruntime would compare the bytes' number alone
            raise EngineFailure(f"input {name!r} is {value.dtype} {value.shape} where {spec.dtype} {shape} is bound")
        self._inputs[name].update_inplace(value)


def trim_heap() -> None:
    """Give back to the kernel what is free of the C library's heap, which is onnxruntime's and NumPy's.

    glibc does so by itself only at the end of a thread's heap. Takes milliseconds, in which other threads may wait for
    memory. Does nothing with another C library.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _allocate(spec: TensorSpec, rows: int, placement: Placement) -> onnxruntime.OrtValue:
    shape = [rows, *spec.shape]
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, spec.dtype.type, placement.device, placement.index)


def _open(model: bytes, placement: Placement, weights: Mapping[str, mmap.mmap]) -> onnxruntime.InferenceSession:
    options = placement.session_options()
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if weights:
        sizes = [len(memory) for memory in weights.values()]
        options.add_external_initializers_from_files_in_memory([*weights], [*weights.values()], sizes)
    provider = placement.provider, placement.provider_options()
    with _readable(model) as source:
        try:
            return onnxruntime.InferenceSession(source, options, providers=[provider], enable_fallback=0)
        except Exception as error:
            reason = first_line(error).replace(str(source), "the graph")
            raise BundleError(f"onnxruntime cannot open it: {reason}") from error


@contextmanager
def _readable(model: bytes) -> Iterator[str | bytes]:
    """The model as a file in memory: to take it from bytes, onnxruntime would hold the interpreter, and keep them."""
    if not hasattr(os, "memfd_create"):
        yield model
        return
    descriptor = os.memfd_create("graph.onnx")
    try:
        left = memoryview(model)
        while left:
            left = left[os.write(descriptor, left) :]
        os.close(os.dup(descriptor))  # fails where onnxruntime could not open one more, and would blame the graph
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _spec(value: Any, batch_rows: int) -> TensorSpec:
    axis = value.shape[0] if value.shape else 0
    if isinstance(axis, int) if not batch_rows else axis != batch_rows:
        what = f"a batch axis of {batch_rows} rows" if batch_rows else "a free batch axis"
        raise BundleError(f"tensor {value.name}: axis 0 is not {what} (shape {value.shape})")
    if not all(isinstance(extent, int) for extent in value.shape[1:]):
        raise BundleError(f"tensor {value.name}: only axis 0 may be free (shape {value.shape})")
    if value.type not in _DTYPES:
        raise BundleError(f"tensor {value.name}: {value.type} is not one of {', '.join(_DTYPES)}")
    return TensorSpec(value.name, _DTYPES[value.type], tuple(value.shape[1:]))
