"""A damaged bundle is always a BundleError that says what is wrong: it is neither served nor the server's end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from running_server import running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import bundle_pb2 as pb
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
    assert await problem(directory) == f"{name}: No such file or directory"


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "golden.safetensors", "CARD.md"])
async def test_a_file_that_grew_or_shrank_or_changed_is_named(tmp_path: Path, problem: Problem, name: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    data = (directory / name).read_bytes()
    for damaged, message in (
        (data + b"x", f"{name}: longer than {len(data)} bytes"),
        (data[:-1], f"{name}: {len(data) - 1} bytes where the manifest says {len(data)}"),
        (bytes([data[0] ^ 1]) + data[1:], f"{name}: the SHA-256 is not the manifest's"),
    ):
        (directory / name).write_bytes(damaged)
        assert (await problem(directory)).startswith(message)


def set_manifest(**fields: Any) -> Callable[[pb.Manifest], None]:
    """An edit that gives fields of the manifest, or fields of its messages, other values."""

    def edit(manifest: pb.Manifest) -> None:
        for path, value in fields.items():
            *parents, last = path.split("__")
            message: Any = manifest
            for parent in parents:
                message = getattr(message, parent)
            setattr(message, last, value)

    return edit


@pytest.mark.parametrize("path", ["../golden.safetensors", "/etc/passwd", "", ".", "..", "deeper/golden.safetensors"])
async def test_a_file_may_not_lie_outside_the_bundle(tmp_path: Path, problem: Problem, path: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1", edit_manifest=set_manifest(golden__path=path))
    assert (await problem(directory)).startswith((f"{path!r}: a bundle's file is a plain name", "..: Is a directory"))


def to_link(file: Path) -> None:
    file.rename(file.parents[2] / "elsewhere")
    file.symlink_to(file.parents[2] / "elsewhere")


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def to_socket(file: Path) -> None:
    file.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))


def to_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("change", [to_pipe, to_socket, to_directory])
@pytest.mark.parametrize("name", ["manifest.json", "decoder.onnx", "golden.safetensors", "CARD.md"])
async def test_what_is_no_regular_file_is_refused_unread(
    tmp_path: Path, problem: Problem, change: Callable[[Path], None], name: str
) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    change(directory / name)
    assert await problem(directory) == f"{name}: not a regular file"


@pytest.mark.parametrize("name", ["manifest.json", "decoder.onnx", "golden.safetensors", "CARD.md"])
async def test_a_link_is_refused_unread(tmp_path: Path, problem: Problem, name: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    to_link(directory / name)
    said = "a link; put the file in its place, or name the folder where links end by --links-within"
    assert await problem(directory) == f"{name}: {said}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format_version": 2}, "format_version 2 where 1 is understood"),
        ({"kind": 0}, "kind is neither VAE nor GAN"),
        ({"kind": 2, "likelihood": 0}, "graphs are not those of the kind of model"),
        ({"likelihood": 0}, "likelihood does not fit the kind of model"),
        ({"latent__dim": 0}, "latent.dim is not in 1 to 65536"),
        ({"latent__dim": 65537}, "latent.dim is not in 1 to 65536"),
        ({"latent__dim": 4}, "tensor '(latent|mean)' is not float32"),
        ({"latent__prior": 0}, "latent.prior is not PRIOR_STANDARD_NORMAL"),
        ({"image__channels": 2}, "image.channels is neither 1 nor 3"),
        ({"image__channels": 3}, "tensor 'image' is not float32"),
        ({"image__height": 0}, "image has no or over 16777216 pixels"),
        ({"image__width": 2**32 - 1}, "image has no or over 16777216 pixels"),
        ({"image__max_value": 255}, "image has a value range other than 0 to 1"),
        ({"image__min_value": -1}, "image has a value range other than 0 to 1"),
        ({"image__reading__filter": 6}, "image.reading.filter has a value that is not known"),
        ({"image__reading__fit": 3}, "image.reading.fit has a value that is not known"),
        ({"image__reading__grey": 3}, "image.reading.grey has a value that is not known"),
        ({"image__reading__background__green": 256}, "image.reading.background has a value that is not known"),
    ],
    ids=str,
)
async def test_a_manifest_that_says_something_else_is_told_which_field(
    tmp_path: Path, problem: Problem, fields: dict[str, Any], message: str
) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1", edit_manifest=set_manifest(**fields))
    assert re.search(f"^manifest.json: .*{message}", await problem(directory))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '"text"', '{"kind": "NOPE"}', '{"unknown": 1}', "[" * 100_000, "\x00"]
)
async def test_a_manifest_that_is_none_is_named(tmp_path: Path, problem: Problem, text: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    (directory / "manifest.json").write_text(text)
    assert (await problem(directory)).startswith("manifest.json: ")


async def test_a_manifest_of_bytes_that_are_no_text_is_named(tmp_path: Path, problem: Problem) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    (directory / "manifest.json").write_bytes(b"\xff\xfe{}")
    assert (await problem(directory)).startswith("manifest.json: ")


async def test_a_manifest_over_a_megabyte_is_refused_unread(tmp_path: Path, problem: Problem) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    with (directory / "manifest.json").open("ab") as file:
        file.write(b" " * (1 << 20))
    assert await problem(directory) == "manifest.json: longer than 1048576 bytes"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"golden__size_bytes": 10**18}, id="size"),
        pytest.param({"golden__path": "golden\0.safetensors"}, id="NUL"),
    ],
)
async def test_a_manifest_of_absurd_values_is_a_bundle_error(
    tmp_path: Path, problem: Problem, fields: dict[str, Any]
) -> None:
    assert "golden" in await problem(TinyModel().write(tmp_path / "vae" / "1", edit_manifest=set_manifest(**fields)))


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
        np.testing.assert_allclose(images, SMALLEST.images(LATENTS), atol=1e-6)


@pytest.mark.parametrize(("true", "other"), [("tiny", "tidy"), ("12.5", "12.4"), (": ", ":\t")])
async def test_a_manifest_whose_name_metrics_or_spaces_changed_is_served(healthy: Path, true: str, other: str) -> None:
    place = healthy.parents[2] / "changed" / "vae" / "1"
    directory = damaged_copy(
        healthy, place, "manifest.json", lambda data: data.replace(true.encode(), other.encode(), 1)
    )
    assert (directory / "manifest.json").read_bytes() != (healthy / "manifest.json").read_bytes()
    np.testing.assert_allclose(await decoded(directory), SMALLEST.images(LATENTS), atol=1e-6)
