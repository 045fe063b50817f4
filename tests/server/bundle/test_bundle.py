"""A damaged bundle is always a BundleError that says what is wrong: it is neither served nor the server's end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from running_server import running_server
from tested_device import tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import models_pb2
from latentserve.v1.generation_pb2 import DecodeRequest, ModelRef
from latentserve_server.bundle.bundle import read_bundle
from latentserve_server.errors import BundleError, StartupError

Problem = Callable[[Path], Awaitable[str]]
SMALLEST = TinyModel(height=2, width=2, latent_dim=1)
LATENTS = np.array([[-1], [0.5]], np.float32)


async def test_a_healthy_bundle_is_served_and_its_digest_is_the_manifests(tmp_path: Path) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path) as served:
        request = models_pb2.GetModelRequest(model=ModelRef(name="vae"))
        digest = (await served.models.GetModel(request)).model.digest
    assert digest == hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "decoder.onnx", "golden.safetensors", "CARD.md"])
async def test_a_missing_file_is_named(tmp_path: Path, problem: Problem, name: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    (directory / name).unlink()
    assert (await problem(directory)).startswith(f"{name}: ")


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("name", ["manifest.json", "decoder.onnx", "golden.safetensors", "CARD.md"])
async def test_a_pipe_is_refused_unread(tmp_path: Path, problem: Problem, name: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    to_pipe(directory / name)
    assert (await problem(directory)).startswith(f"{name}: ")


BUNDLE = st.sampled_from(["encoder.onnx", "decoder.onnx", "golden.safetensors", "CARD.md"])
PLACES = st.floats(0, 1, exclude_max=True)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SMALLEST.write(tmp_path_factory.mktemp("healthy") / "vae" / "1")


async def decoded(directory: Path) -> NDArray[Any]:
    """What a server over the bundle makes of LATENTS."""
    async with running_server(directory.parents[1]) as served:
        request = DecodeRequest(model=ModelRef(name="vae"), latents=from_ndarray(LATENTS))
        return to_ndarray((await served.generation.Decode(request)).images.tensor)


def damaged_copy(healthy: Path, place: Path, name: str, damage: Callable[[bytes], bytes]) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(healthy, place)
    (place / name).write_bytes(damage((place / name).read_bytes()))
    return place


def flip(place: float, bit: int) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]

    return damage


@given(name=BUNDLE, place=PLACES, bit=st.one_of(st.none(), st.integers(0, 7)))
def test_any_byte_that_changed_or_is_missing_is_found(healthy: Path, name: str, place: float, bit: int | None) -> None:
    damage = flip(place, bit) if bit is not None else lambda data: data[: int(place * len(data))]
    with pytest.raises(BundleError, match=re.escape(name)):
        read_bundle(damaged_copy(healthy, healthy.parents[2] / "damaged" / "vae" / "1", name, damage))


@settings(max_examples=60)
@given(place=PLACES, bit=st.one_of(st.none(), st.integers(0, 7)))
def test_a_manifest_with_a_damaged_byte_is_a_bundle_error_or_still_a_true_one(
    healthy: Path, place: float, bit: int | None
) -> None:
    """Not every byte of a manifest matters to the server: a name, a space or a metric may change."""
    damage = flip(place, bit) if bit is not None else lambda data: data[: int(place * len(data))]
    directory = damaged_copy(healthy, healthy.parents[2] / "damaged" / "vae" / "1", "manifest.json", damage)

    try:
        images = asyncio.run(decoded(directory))
    except StartupError as error:
        assert "no model can be served: vae/1: " in str(error)  # noqa: PT017
    else:
        np.testing.assert_allclose(images, SMALLEST.images(LATENTS), atol=tolerance(1e-6))


@pytest.mark.parametrize(("true", "other"), [("tiny", "tidy"), ("12.5", "12.4"), (": ", ":\t")])
async def test_a_manifest_whose_name_metrics_or_spaces_changed_is_served(healthy: Path, true: str, other: str) -> None:
    place = healthy.parents[2] / "changed" / "vae" / "1"
    directory = damaged_copy(
        healthy, place, "manifest.json", lambda data: data.replace(true.encode(), other.encode(), 1)
    )
    assert (directory / "manifest.json").read_bytes() != (healthy / "manifest.json").read_bytes()
    np.testing.assert_allclose(await decoded(directory), SMALLEST.images(LATENTS), atol=tolerance(1e-6))
