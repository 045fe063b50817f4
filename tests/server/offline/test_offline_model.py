"""A version opened offline gives the rows that a running server gives, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_graph
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tested_device import assert_agree, device
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import bundle_pb2, models_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.errors import BundleError, CapabilityMissing, InvalidArgument, ModelNotFound
from latentserve_server.model.requests import FLOAT32_PIXELS, UINT8_PIXELS
from latentserve_server.offline.model import OfflineModel, OfflineOptions
from latentserve_server.offline.pictures import picture_pixels, png, tensor_pixels
from latentserve_server.offline.requests import Draws, labels_of, sample_request
from latentserve_server.offline.version import found_version

MODELS = {
    "a VAE": TinyModel(),
    "a VAE with convolutions": TinyModel(conv=True, channels=3),
    "a GAN with noise and psi": TinyModel(kind="gan", noises=2, psi=(0.5, 0.0, 1.0)),
    "a conditional VAE": TinyModel(labels=3),
    "an autoencoder with a mixture": TinyModel(kind="autoencoder", components=2),
    "a model with a prior graph": TinyModel(noise_dim=5),
    "a model of codes": TinyModel(kind="vq", codes=8, noise_dim=4),
    "a calibrated VAE": TinyModel(quantiles=tuple(np.linspace(5, 40, 101))),
}
ENCODING = {name: tiny for name, tiny in MODELS.items() if tiny.kind != "gan"}
ROWS = 150
"""More than two batches of 64, and no multiple of one."""


@contextmanager
def opened(repository: Path, **options: Any) -> Iterator[OfflineModel]:
    with found_version(str(repository), "m") as found:
        model = OfflineModel(found, OfflineOptions(**{"device": device(), **options}))
        try:
            yield model
        finally:
            model.close()


def sampled(repository: Path, draws: Draws, form: str = FLOAT32_PIXELS, first: int = 0) -> NDArray[Any]:
    with found_version(str(repository), "m") as found, opened(repository) as model:
        rows, _ = model.sample(sample_request(found, draws, first, ROWS, form))
        assert not rows.failed
        return np.asarray(rows.outputs[form])


async def asked(served: RunningServer, **request: Any) -> pb.SampleResponse:
    return await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="m"), count=ROWS, seed=9, **request))


@pytest.mark.parametrize("tiny", MODELS.values(), ids=MODELS)
async def test_a_sample_has_the_bits_of_the_servers(tmp_path: Path, tiny: TinyModel) -> None:
    tiny.write(tmp_path / "m" / "1")
    async with running_server(tmp_path) as served:
        reply = await asked(served, first_index=7)
    assert_agree(sampled(tmp_path, Draws(seed=9), first=7), to_ndarray(reply.images.tensor))


async def test_a_shaped_sample_in_8_bits_has_the_bits_of_the_servers(tmp_path: Path) -> None:
    TinyModel(components=3, psi=(0.5, 0.0, 1.0), labels=4).write(tmp_path / "m" / "1")
    shaping = pb.Shaping(temperature=0.7, truncation=1.5, psi=0.25)
    async with running_server(tmp_path) as served:
        reply = await asked(
            served,
            shaping=shaping,
            prior=bundle_pb2.PRIOR_MIXTURE,
            labels=[2, 0],
            output=pb.Output(format=pb.IMAGE_FORMAT_UINT8),
        )
    draws = Draws(seed=9, prior="mixture", temperature=0.7, truncation=1.5, psi=0.25, labels=(2, 0))
    assert_agree(sampled(tmp_path, draws, UINT8_PIXELS), to_ndarray(reply.images.tensor))


@pytest.mark.parametrize("tiny", ENCODING.values(), ids=ENCODING)
async def test_encodings_reconstructions_and_scores_have_the_bits_of_the_servers(
    tmp_path: Path, tiny: TinyModel
) -> None:
    tiny.write(tmp_path / "m" / "1")
    pixels = tiny.random_images(ROWS)
    given = {"model": pb.ModelRef(name="m"), "images": pb.Images(tensor=from_ndarray(pixels))}
    given |= {"labels": [1]} if tiny.labels else {}
    async with running_server(tmp_path) as served:
        encoded = await served.generation.Encode(pb.EncodeRequest(**given))
        again = await served.generation.Reconstruct(pb.ReconstructRequest(**given))
        scored = await served.generation.Score(pb.ScoreRequest(**given))
    with found_version(str(tmp_path), "m") as found, opened(tmp_path) as model:
        labels = labels_of(found, (1,) if tiny.labels else ())
        images = np.stack([tensor_pixels(image, model.manifest.image) for image in pixels])
        codes = model.encode(images, labels)
        rows, scores = model.reconstruct(images, labels, [FLOAT32_PIXELS])
    for name, latents in codes.outputs.items():
        assert_agree(latents, to_ndarray(getattr(encoded, name)))
    assert_agree(rows.outputs[FLOAT32_PIXELS], to_ndarray(again.images.tensor))
    for name in ("reconstruction_error", "kl", "elbo", "anomaly_percentile"):
        found_scores = getattr(scores, name)
        assert_agree([] if found_scores is None else found_scores.tolist(), list(getattr(scored, name)))


def test_latents_come_with_the_images_that_are_decoded_from_them(tmp_path: Path) -> None:
    tiny = TinyModel(noise_dim=5)
    tiny.write(tmp_path / "m" / "1")
    with found_version(str(tmp_path), "m") as found, opened(tmp_path) as model:
        for prior in ("graph", "standard-normal"):
            rows, _ = model.sample(sample_request(found, Draws(seed=1, prior=prior), 3, ROWS), latents=True)
            expected = tiny.images(rows.outputs["latent"])
            np.testing.assert_allclose(rows.outputs["image"], expected, rtol=0, atol=1e-6)


def test_a_row_that_fails_its_run_takes_no_other_with_it(tmp_path: Path) -> None:
    tiny = TinyModel(fragile=True)
    tiny.write(tmp_path / "m" / "1")
    with found_version(str(tmp_path), "m") as found, opened(tmp_path) as model:
        request = sample_request(found, Draws(seed=1, temperature=4), 0, 30 * ROWS)
        rows, _ = model.sample(request, latents=True)
    latents, limit = rows.outputs["latent"], tiny_graph.FRAGILE_LIMIT
    indices = np.trunc(latents[:, 0])
    broken = np.flatnonzero((indices >= limit) | (indices < -limit))  # a Gather counts from the end, too
    assert sorted(rows.failed) == broken.tolist()
    assert len(broken)
    kept = np.setdiff1d(np.arange(len(latents)), broken)
    np.testing.assert_allclose(rows.outputs["image"][kept], tiny.images(latents[kept]), rtol=0, atol=1e-6)


@pytest.mark.cpu_only("portable numerics are the CPU's")
async def test_portable_rows_have_the_servers_bits_with_any_number_of_threads(tmp_path: Path) -> None:
    TinyModel(conv=True).write(tmp_path / "m" / "1")
    async with running_server(tmp_path, numerics="portable", cpu_threads=1) as served:
        reply = await asked(served)
        model = await served.models.GetModel(models_pb2.GetModelRequest(model=pb.ModelRef(name="m")))
    with found_version(str(tmp_path), "m") as found, opened(tmp_path, numerics="portable", threads=3) as offline:
        rows, _ = offline.sample(sample_request(found, Draws(seed=9), 0, ROWS))
        assert offline.numerics == model.model.numerics
    assert_agree(rows.outputs["image"], to_ndarray(reply.images.tensor))


def test_a_png_is_read_as_the_image_that_it_was_written_from(tmp_path: Path) -> None:
    tiny = TinyModel(channels=3)
    (image,) = tiny.random_images(1)
    spec = bundle_pb2.ImageSpec(channels=3, height=tiny.height, width=tiny.width)
    np.testing.assert_array_equal(picture_pixels(png(image), spec, resize=False), tensor_pixels(image, spec))


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((1, 4, 4), np.uint8), r"uint8 \[1, 4, 4\] where \[1, 4, 5\] is wanted"),
        (np.zeros((1, 4, 5), np.int64), "int64; float32, float16 and uint8 are allowed"),
        (np.full((1, 4, 5), np.nan, np.float32), "a value is not finite"),
        (np.full((1, 4, 5), 2, np.float32), "image: "),
    ],
)
def test_a_tensor_that_is_no_image_is_refused(pixels: NDArray[Any], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        tensor_pixels(pixels, bundle_pb2.ImageSpec(channels=1, height=4, width=5))


def test_the_version_is_the_highest_or_the_one_that_is_named(tmp_path: Path) -> None:
    for version in (1, 2):
        TinyModel(seed=version).write(tmp_path / "m" / str(version))
    (tmp_path / "m" / "aliases.json").write_text('{"stable": 1}')
    numbers = []
    for which in ({}, {"version": 1}, {"alias": "stable"}):
        with found_version(str(tmp_path), "m", **which) as found:  # type: ignore[arg-type]
            numbers.append(found.version)
    assert numbers == [2, 1, 1]


@pytest.mark.parametrize(
    ("name", "which", "problem"),
    [
        ("n", {}, "there is no model 'n'; it has m"),
        ("m", {"version": 3}, "model 'm' has no version 3; it has 1"),
        ("m", {"alias": "stable"}, "model 'm' has no alias 'stable'"),
    ],
)
def test_a_version_that_is_not_there_is_told(tmp_path: Path, name: str, which: dict[str, Any], problem: str) -> None:
    TinyModel().write(tmp_path / "m" / "1")
    with pytest.raises(ModelNotFound, match=problem), found_version(str(tmp_path), name, **which):
        pass


def test_what_a_model_cannot_do_is_refused(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "m" / "1")
    with found_version(str(tmp_path), "m") as found:
        with pytest.raises(CapabilityMissing, match="carries no mixture"):
            sample_request(found, Draws(seed=0, prior="mixture"), 0, 1)
        with pytest.raises(InvalidArgument, match="psi: the model's decoder takes none"):
            sample_request(found, Draws(seed=0, psi=1.0), 0, 1)
        with pytest.raises(InvalidArgument, match="the model has no labels"):
            sample_request(found, Draws(seed=0, labels=(1,)), 0, 1)


def test_a_damaged_bundle_is_not_opened(tmp_path: Path) -> None:
    bundle = TinyModel().write(tmp_path / "m" / "1")
    with (bundle / "decoder.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"decoder\.onnx"), opened(tmp_path):
        pass
