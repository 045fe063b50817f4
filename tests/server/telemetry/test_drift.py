"""What a scrape shows of the drift of what is encoded and scored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from admin_server import UNAVAILABLE, AdminServer
from calibrated_model import bright_images, write_calibrated
from inference_requests import infer_request, stub_of
from model_shelf import Shelf
from numpy.typing import NDArray
from running_server import RunningServer, running_server, scrape
from server_process import BACKSTOP_SECONDS
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb

MODEL = TinyModel()
OTHER = TinyModel(seed=7)
VAE = pb.ModelRef(name="vae")
RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "rules.yaml"
LATENTS, PERCENTILES = "latent_drift_nats", "anomaly_percentile_psi"
LATENTS_DRIFT, SCORES_DRIFT = "LatentserveLatentsDrift", "LatentserveScoresDrift"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_calibrated(root / "vae" / "1", MODEL)
    write_calibrated(root / "without" / "1", MODEL, latents=False)
    MODEL.write(root / "plain" / "1")
    TinyModel(kind="autoencoder").write(root / "points" / "1")
    return root


@pytest.fixture
async def served(models: Path) -> AsyncIterator[RunningServer]:
    async with running_server(models, max_batch_rows=64, metrics_listen="127.0.0.1:0") as server:
        yield server


def threshold(alert: str) -> float:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    (expression,) = (rule["expr"] for rule in rules if rule.get("alert") == alert)
    return float(expression.split(">")[1].split()[0])


async def encode(served: RunningServer, images: NDArray[np.uint8], model: str = "vae") -> None:
    """Encode images, each batch of which is a call."""
    for batch in np.split(images, range(50, len(images), 50)):
        tensor = pb.Images(tensor=from_ndarray(batch))
        await served.generation.Encode(pb.EncodeRequest(model=pb.ModelRef(name=model), images=tensor))


async def score(served: RunningServer, images: NDArray[np.uint8], model: str = "vae") -> None:
    """Score images, each batch of which is a call."""
    for batch in np.split(images, range(50, len(images), 50)):
        tensor = pb.Images(tensor=from_ndarray(batch))
        await served.generation.Score(pb.ScoreRequest(model=pb.ModelRef(name=model), images=tensor))


async def shows(served: RunningServer, name: str) -> bool:
    """Whether a scrape has a series of the metric."""
    page = await asyncio.to_thread(scrape, served.server.metrics_port)
    return f"latentserve_{name}{{" in page


async def test_images_like_those_of_the_calibration_stay_below_the_thresholds(served: RunningServer) -> None:
    for seed in range(5):
        await score(served, MODEL.random_images(1000, seed=seed))
        assert 0 <= await served.metric(LATENTS, model="vae", version="1") < 0.1 * threshold(LATENTS_DRIFT)
        assert 0 <= await served.metric(PERCENTILES, model="vae", version="1") < 0.2 * threshold(SCORES_DRIFT)
        assert await served.metric("drift_windows_total", model="vae", of="latents") == seed + 1
        assert await served.metric("drift_windows_total", model="vae", of="percentiles") == seed + 1


async def test_other_images_go_beyond_the_thresholds_and_what_comes_back_returns_below(served: RunningServer) -> None:
    await score(served, bright_images(MODEL, 1000))
    assert await served.metric(LATENTS) > threshold(LATENTS_DRIFT)
    assert await served.metric(PERCENTILES) > threshold(SCORES_DRIFT)
    await score(served, MODEL.random_images(1000, seed=2))
    assert 0 < await served.metric(LATENTS) < threshold(LATENTS_DRIFT)
    assert 0 < await served.metric(PERCENTILES) < threshold(SCORES_DRIFT)


async def test_nothing_is_told_of_fewer_than_a_thousand_rows(served: RunningServer) -> None:
    images = bright_images(MODEL, 1000)
    await score(served, images[:999])
    assert not await shows(served, LATENTS)
    assert not await shows(served, PERCENTILES)
    assert not await shows(served, "drift_windows_total")
    await score(served, images[999:])
    assert await shows(served, LATENTS)
    assert await shows(served, PERCENTILES)


async def test_what_is_told_does_not_move_until_the_next_window_ends(served: RunningServer) -> None:
    await score(served, MODEL.random_images(1000))
    first = await served.metric(LATENTS), await served.metric(PERCENTILES)
    await score(served, bright_images(MODEL, 999))
    assert (await served.metric(LATENTS), await served.metric(PERCENTILES)) == first
    await score(served, bright_images(MODEL, 1))
    alone = await served.metric(LATENTS)
    assert alone > threshold(LATENTS_DRIFT), "the rows of the window before count no more"


async def test_every_way_of_encoding_counts(served: RunningServer) -> None:
    images = MODEL.random_images(50)
    tensor, oip = pb.Images(tensor=from_ndarray(images)), (images / 255).astype(np.float32)
    generation = served.generation
    for _ in range(4):
        await generation.Encode(pb.EncodeRequest(model=VAE, images=tensor))
        await generation.Reconstruct(pb.ReconstructRequest(model=VAE, images=tensor))
        await generation.Score(pb.ScoreRequest(model=VAE, images=tensor))
        await generation.Score(pb.ScoreRequest(model=VAE, images=tensor, draws=2))
    for _ in range(3):
        await stub_of(served).ModelInfer(infer_request("vae.encoder", "image", oip, "mean"))
    assert not await shows(served, LATENTS)  # 950 rows
    await stub_of(served).ModelInfer(infer_request("vae.encoder", "image", oip, "log_variance"))
    assert not await shows(served, LATENTS)  # nobody asked for means
    await stub_of(served).ModelInfer(infer_request("vae.encoder", "image", oip))
    assert await served.metric("drift_windows_total", model="vae", of="latents") == 1
    assert await served.metric("drift_windows_total", of="percentiles") == 0  # 400 rows


async def test_what_a_bundle_does_not_say_is_not_compared(served: RunningServer) -> None:
    images = MODEL.random_images(1000)
    for model in ("plain", "points"):
        await score(served, images, model)
    assert not await shows(served, "drift_windows_total")
    await score(served, images, "without")
    assert await shows(served, PERCENTILES)
    assert not await shows(served, LATENTS)


@pytest.mark.cpu_only("batches of CUDA are always padded")
async def test_rows_that_fill_batches_up_do_not_count(models: Path) -> None:
    async with running_server(models, max_batch_rows=64, pad_batches="always", metrics_listen="127.0.0.1:0") as served:
        for seed in range(60):
            await encode(served, MODEL.random_images(17, seed=seed))
        assert await served.metric("padding_rows_total", graph="encoder") == 60 * 15
        assert await served.metric("drift_windows_total", of="latents") == 1
        assert await served.metric(LATENTS) < 0.1 * threshold(LATENTS_DRIFT)


async def test_a_version_that_was_replaced_leaves_nothing_behind(measured: AdminServer, shelf: Shelf) -> None:
    for model in (MODEL, OTHER):
        shelf.publish_written(1, partial(write_calibrated, model=model))
        assert await measured.rescan() == []
        assert not await shows(measured.served, LATENTS)
        assert not await shows(measured.served, PERCENTILES)
        await score(measured.served, model.random_images(1000))
        assert await shows(measured.served, LATENTS)
        assert await shows(measured.served, PERCENTILES)
    shelf.publish(2, 2)
    assert await measured.rescan() == []
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while (await measured.states())[1][0] != UNAVAILABLE:
            pass
    assert not await shows(measured.served, "drift_windows_total")
