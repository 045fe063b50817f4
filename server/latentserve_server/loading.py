"""From a bundle on disk to a model that is ready: verify, open, compare with the golden rows, warm up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.batcher import Batcher, BatchLimits, BatchObserver
from latentserve_server.bundle import Bundle, TensorShapes, read_bundle, role_name
from latentserve_server.engine import Device, Engine, Port
from latentserve_server.errors import BundleError, EngineFailure
from latentserve_server.golden_outputs import check_outputs
from latentserve_server.graph_outline import check_graph
from latentserve_server.noise import NoiseSource
from latentserve_server.prior import PriorSource
from latentserve_server.served_model import REPLY_OVERHEAD_BYTES, Identity, Limits, ServedModel
from latentserve_server.workers import Workers

_GOLDEN_TOLERANCE = {Device.CPU: 1e-4, Device.CUDA: 1e-3}
"""Largest difference from a golden float, absolute and relative; kernels differ between processors."""

_MAX_TENSOR_BYTES = 1 << 30
"""What one tensor of the largest batch may take."""

_FILE_OVERHEAD_BYTES = 512
"""What an image file takes beyond its pixels, generously."""

_LABEL_BYTES = 3
"""What a label below 2^16 takes in a message, at most."""


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Makes ready models of bundle directories."""

    device: Device
    cpu_threads: int
    limits: Limits
    pad_batches: bool
    """Whether batches are filled up to a power of two rows, so that the device meets few shapes."""
    noise: NoiseSource
    workers: Workers
    observer: Callable[[str, int, str], BatchObserver]
    """The observer of a model's graph, from the model's name, its version and the graph's role."""

    async def load(self, name: str, version: int, directory: Path) -> ServedModel:
        """A ready model. Everything slow happens on the model's own engine thread.

        Raises:
            BundleError: the bundle is damaged, or its graphs are not what the manifest says.
            DeviceError: the graphs do not run on the device.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{name}-{version}")
        try:
            opened = asyncio.get_running_loop().run_in_executor(executor, self._open, directory)
            bundle, limits, engines = await opened
        except BaseException:
            executor.shutdown(wait=False)
            raise
        batchers = {}
        for role, engine in engines.items():
            observer = self.observer(name, version, role_name(role))
            batchers[role] = Batcher(engine, executor, self.workers, observer, self._batch_limits())
            batchers[role].start()
        identity = Identity(name=name, version=version, digest=bundle.digest, device=self.device)

        async def release() -> None:
            await asyncio.to_thread(executor.shutdown)

        return ServedModel(
            identity,
            bundle.manifest,
            limits,
            batchers,
            prior=PriorSource(self.noise, bundle.manifest.latent.dim, bundle.mixture),
            noise=self.noise,
            workers=self.workers,
            release=release,
        )

    def _open(self, directory: Path) -> tuple[Bundle, Limits, Mapping[pb.GraphRole, Engine]]:
        bundle = read_bundle(directory)
        _check_batch_bytes(bundle, self.limits.max_batch_rows)
        engines = {}
        for role, model in bundle.graphs.items():
            try:
                engines[role] = self._open_graph(bundle, role, model)
            except (BundleError, EngineFailure) as error:
                raise BundleError(f"{role_name(role)}: {error}") from error
        return bundle, self._limits_of(bundle), engines

    def _open_graph(self, bundle: Bundle, role: pb.GraphRole, model: bytes) -> Engine:
        check_graph(model)
        engine = Engine(model, self.device, cpu_threads=self.cpu_threads)
        _check_ports(engine.inputs, bundle.inputs(role), exact=True)
        _check_ports(engine.outputs, bundle.outputs(role), exact=False)
        _check_golden_rows(engine, bundle, role, _GOLDEN_TOLERANCE[self.device])
        for rows in _buckets(self.limits.max_batch_rows):
            inputs = {name: np.zeros((rows, *shape), dtype) for name, (dtype, shape) in bundle.inputs(role).items()}
            engine.run(inputs, list(bundle.outputs(role)))
        return engine

    def _batch_limits(self) -> BatchLimits:
        return BatchLimits(
            max_batch_rows=self.limits.max_batch_rows,
            max_queue_rows=self.limits.max_queue_rows,
            max_queue_bytes=self.limits.max_queue_bytes,
            buckets=_buckets(self.limits.max_batch_rows) if self.pad_batches else (),
        )

    def _limits_of(self, bundle: Bundle) -> Limits:
        """The limits of this model: a call's rows must fit a message as float32 images, as files and as posteriors."""
        image, latent = bundle.manifest.image, bundle.manifest.latent
        pixels = image.channels * image.height * image.width
        row_bytes = max(4 * pixels, pixels + _FILE_OVERHEAD_BYTES, 3 * 4 * latent.dim)
        row_bytes += _LABEL_BYTES if bundle.manifest.labels.count else 0
        fitting = max(1, (self.limits.max_message_bytes - REPLY_OVERHEAD_BYTES) // row_bytes)
        return Limits(
            max_rows_per_request=min(self.limits.max_rows_per_request, fitting),
            max_batch_rows=self.limits.max_batch_rows,
            max_queue_rows=self.limits.max_queue_rows,
            max_queue_bytes=self.limits.max_queue_bytes,
            max_message_bytes=self.limits.max_message_bytes,
        )


def _check_batch_bytes(bundle: Bundle, rows: int) -> None:
    """Refuse a model whose largest batch would take more memory than one tensor may, before the batch is made."""
    for role in bundle.graphs:
        for name, (dtype, shape) in {**bundle.inputs(role), **bundle.outputs(role)}.items():
            size = rows * math.prod(shape) * dtype.itemsize
            if size > _MAX_TENSOR_BYTES:
                raise BundleError(
                    f"{role_name(role)}: a batch of {rows} rows of {name!r} takes {size} bytes where "
                    f"{_MAX_TENSOR_BYTES} are allowed; lower --max-batch-rows"
                )


def _check_ports(ports: tuple[Port, ...], demanded: TensorShapes, *, exact: bool) -> None:
    found = {port.name: (port.dtype, port.shape) for port in ports}
    for name, (dtype, shape) in demanded.items():
        if found.get(name) != (dtype, shape):
            raise BundleError(f"the graph's tensor {name!r} is not {dtype.name} [batch, *{list(shape)}]")
    if exact and len(found) != len(demanded):
        raise BundleError(f"the graph's inputs are {sorted(found)} where {sorted(demanded)} are fed")


def _check_golden_rows(engine: Engine, bundle: Bundle, role: pb.GraphRole, tolerance: float) -> None:
    golden = {
        name: bundle.golden[f"{role_name(role)}.{name}"] for name in (*bundle.inputs(role), *bundle.outputs(role))
    }
    names = list(bundle.outputs(role))
    outputs = engine.run({name: golden[name] for name in bundle.inputs(role)}, names)
    for name in names:
        if not _agrees(outputs[name], golden[name], tolerance):
            raise BundleError(f"output {name!r} does not reproduce the golden rows within {tolerance}")
    check_outputs(outputs)


def _agrees(computed: NDArray[Any], golden: NDArray[Any], tolerance: float) -> bool:
    if computed.shape != golden.shape:
        return False
    if golden.dtype == np.uint8:  # a float on the edge between two levels may fall to either side
        return bool(np.abs(computed.astype(int) - golden.astype(int)).max() <= 1)
    return bool(np.allclose(computed, golden, rtol=tolerance, atol=tolerance))


def _buckets(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `max_rows`."""
    return (*(1 << power for power in range((max_rows - 1).bit_length())), max_rows)
