"""A model whose batches run through buffers that stay on the device answers as one whose batches do not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loaded_model import loaded
from tested_device import assert_agree
from tiny_bundle import TinyModel

from latentserve_server.engine import Engine
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.model.requests import (
    UINT8_PIXELS,
    DecodeRequest,
    EncodeRequest,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)
from latentserve_server.model.served_model import ServedModel


async def answers(model: ServedModel, images: np.ndarray, labels: Labels) -> list[Any]:
    """What calls of all kinds and many sizes give, all at once."""

    async def call(rows: int) -> list[Any]:
        some = images[:rows]
        encoded = await model.encode(some, EncodeRequest(labels=labels))
        mean, log_variance = encoded.posterior
        decoded = await model.decode(mean, DecodeRequest(labels=labels))
        again = await model.reconstruct(some, ReconstructRequest(form=UINT8_PIXELS, labels=labels))
        scored = await model.score(some, ScoreRequest(labels=labels))
        sampled = await model.sample(SampleRequest(rows=rows, seed=7, labels=labels))
        assert_agree(again.scores.reconstruction_error, scored.scores.reconstruction_error)
        return [mean, log_variance, decoded.images, again.images, again.scores.kl, sampled.images]

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
    options: dict[str, Any] = {"max_batch_rows": 6, "pad": True}
    async with loaded(directory, **options) as plain, loaded(directory, bound=True, **options) as bound:
        expected, given = await answers(plain, images, labels), await answers(bound, images, labels)
        for arrays, others in zip(expected, given, strict=True):
            for one, other in zip(arrays, others, strict=True):
                assert_agree(one, other)
        encoder = plain.footprints["encoder"].buffer_bytes, bound.footprints["encoder"].buffer_bytes
        assert encoder[1] * 6 == encoder[0] * (1 + 2 + 4 + 6), "the buckets', where plain holds the largest one's"


def engines() -> weakref.WeakSet[Engine]:
    """Graphs that are open in this process."""
    return weakref.WeakSet(each for each in gc.get_objects() if type(each) is Engine)


async def test_a_closed_model_is_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    tiny = TinyModel(conv=True)
    directory = tiny.write(tmp_path / "vae" / "1")
    gc.collect()
    gc.disable()  # what is there when a server starts is left out of its collections
    try:
        before = engines()
        async with loaded(directory) as model:
            await answers(model, (tiny.random_images(20) / 255).astype(np.float32), NO_LABELS)
            its_own = engines() - before
            assert len(its_own) == 2
        del model
        assert not its_own
    finally:
        gc.enable()
