"""A model whose batches run through buffers that stay on the device answers as one whose batches do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_graph import Notes
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2
from latentserve_server.bundle.loader import Loader
from latentserve_server.engine import Cpu
from latentserve_server.engine.device_queue import DeviceQueue
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.model.description import Limits
from latentserve_server.model.requests import (
    DecodeRequest,
    EncodeRequest,
    PixelForm,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)
from latentserve_server.model.served_model import ServedModel
from latentserve_server.workers import Workers

LIMITS = Limits(
    max_rows_per_request=32, max_batch_rows=6, max_queue_rows=256, max_queue_bytes=1 << 30, max_message_bytes=1 << 24
)


@asynccontextmanager
async def loaded(directory: Path, *, bound: bool) -> AsyncIterator[ServedModel]:
    workers = Workers(1)
    loader = Loader(
        placement=Cpu(threads=1),
        slots=DeviceQueue(1),
        precision=bundle_pb2.PRECISION_FLOAT32,
        links_within=None,
        limits=LIMITS,
        pad_batches=True,
        bind_batches=bound,
        noise=NoiseSource(),
        workers=workers,
        observer=lambda name, version, graph: Notes(),
    )
    model = await loader.load("vae", 1, directory)
    try:
        yield model
    finally:
        await model.close()
        workers.close()


async def answers(model: ServedModel, images: np.ndarray, labels: Labels) -> list[Any]:
    """What calls of all kinds and many sizes give, all at once."""

    async def call(rows: int) -> list[Any]:
        some = images[:rows]
        encoded = await model.encode(some, EncodeRequest(labels=labels))
        decoded = await model.decode(encoded.mean, DecodeRequest(labels=labels))
        again = await model.reconstruct(some, ReconstructRequest(form=PixelForm.UINT8, labels=labels))
        scored = await model.score(some, ScoreRequest(labels=labels))
        sampled = await model.sample(SampleRequest(count=rows, seed=7, labels=labels))
        np.testing.assert_array_equal(again.reconstruction_error, scored.scores.reconstruction_error)
        return [encoded.mean, encoded.log_variance, decoded.images, again.images, again.kl, sampled.images]

    return await asyncio.gather(*(call(rows) for rows in (1, 2, 3, 5, 6, 7, 13, 20)))


@pytest.mark.parametrize(
    "tiny",
    [TinyModel(conv=True), TinyModel(labels=3), TinyModel(likelihood="discretized_logistic")],
    ids=["Bernoulli", "conditional", "with a scale"],
)
async def test_bound_batches_answer_to_the_bit_what_others_do(tmp_path: Path, tiny: TinyModel) -> None:
    labels = Labels((2,), 3) if tiny.labels else NO_LABELS
    images = (tiny.random_images(20) / 255).astype(np.float32)
    directory = tiny.write(tmp_path / "vae" / "1")
    async with loaded(directory, bound=False) as plain, loaded(directory, bound=True) as bound:
        expected, given = await answers(plain, images, labels), await answers(bound, images, labels)
        for arrays, others in zip(expected, given, strict=True):
            for one, other in zip(arrays, others, strict=True):
                np.testing.assert_array_equal(one, other)
        encoder = plain.footprints["encoder"].buffer_bytes, bound.footprints["encoder"].buffer_bytes
        assert encoder[1] * 6 == encoder[0] * (1 + 2 + 4 + 6), "the buckets', where plain holds the largest one's"
