"""A loader on the device under test, as a server has one, with a model that it has loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from held_graph import Notes
from tested_device import placement

from latentserve.v1 import bundle_pb2
from latentserve_server.bundle.loader import Loader
from latentserve_server.engine.device import DeviceQueue
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.model.identity import Limits
from latentserve_server.model.served_model import ServedModel
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.workers import Workers


@asynccontextmanager
async def loaded(
    directory: Path,
    *,
    max_batch_rows: int = 64,
    precision: bundle_pb2.Precision = bundle_pb2.PRECISION_FLOAT32,
    pad: bool = False,
    bound: bool = False,
    chooses: bool = False,
) -> AsyncIterator[ServedModel]:
    """The model of a bundle, on one thread. With `pad` batches are padded; with `bound` they run through buffers.

    With `chooses` their rows are chosen by what runs take, `max_batch_rows` at most.
    """
    workers = Workers(1)
    limits = Limits(
        max_rows_per_request=64,
        max_batch_rows=max_batch_rows,
        max_queue_rows=256,
        max_queue_bytes=1 << 30,
        max_message_bytes=1 << 24,
    )
    loader = Loader(
        placement=placement(),
        slots=DeviceQueue(1),
        precision=precision,
        links_within=None,
        limits=limits,
        chooses_batch_rows=chooses,
        pad_batches=pad,
        bind_batches=bound,
        noise=NoiseSource(),
        workers=workers,
        observer=lambda name, version, graph: Notes(),
        drift_observer=Metrics().drift_observer,
    )
    model = await loader.load("model", 1, directory)
    try:
        yield model
    finally:
        await model.close()
        workers.close()
