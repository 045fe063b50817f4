"""What is said of a repository that no server can start with, and to callers whom no version answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from admin_server import admin_server, refusal
from model_shelf import BROKEN, Shelf, write
from running_server import running_server

from latentserve.v1 import generation_pb2 as pb
from latentserve_server.errors import ConfigError, OptionError, StartupError

Prepare = Callable[[Path], dict[str, int] | None]


def nothing(root: Path) -> None:
    """Leave the place of the repository as it is: there is none."""


def broken(root: Path) -> None:
    write(root / "vae" / "1", 1, broken=True)
    (write(root / "vae" / "2", 2) / "manifest.json").unlink()


def half(root: Path) -> None:
    (write(root / "vae" / "1", 1) / "decoder.onnx").unlink()


def with_a_pipe(root: Path) -> None:
    half(root)
    os.mkfifo(root / "vae" / "1" / "decoder.onnx")


def large(root: Path) -> dict[str, int]:
    """A bundle that takes more than the smallest cache has; its size."""
    return {"size": sum(file.stat().st_size for file in write(root / "vae" / "1", 1, height=256, width=256).iterdir())}


UNFETCHED = "it cannot be fetched from file://{root}"
NO_MANIFEST = "manifest.json: No such file or directory"
SCHEMES = "write a directory, or a URL of file, gs, s3"
NO_START: list[tuple[Prepare, str, dict[str, Any], type[StartupError], str]] = [
    (nothing, "{root}", {}, ConfigError, "{root}: not a readable directory: No such file or directory"),
    (Path.touch, "{root}", {}, ConfigError, "{root}: not a readable directory: Not a directory"),
    (
        Path.mkdir,
        "{root}",
        {"require_models": True},
        ConfigError,
        "{root}: no model found; bundles lie in <name>/<version>/manifest.json",
    ),
    (
        broken,
        "{root}",
        {"version_policy": "all"},
        StartupError,
        f"{{root}}: no model can be served: vae/1: {BROKEN}; vae/2: {NO_MANIFEST}",
    ),
    (Path.mkdir, "{root}", {"links_within": "/none"}, ConfigError, "--links-within /none: not a directory"),
    (
        nothing,
        "file://{root}",
        {},
        ConfigError,
        "file://{root}: cannot be read: nothing is there (No such file or directory)",
    ),
    (
        half,
        "file://{root}",
        {},
        StartupError,
        f"file://{{root}}: no model can be served: vae/1: {UNFETCHED}: decoder.onnx is not there",
    ),
    (
        with_a_pipe,
        "file://{root}",
        {},
        StartupError,
        f"file://{{root}}: no model can be served: vae/1: {UNFETCHED}: decoder.onnx: not a regular file",
    ),
    (
        large,
        "file://{root}",
        {"cache_bytes": 1 << 20},
        StartupError,
        "file://{root}: no model can be served: vae/1: the bundle has {size} bytes where --cache-bytes is 1048576",
    ),
    (
        half,
        "file://{root}",
        {"cache_dir": "{root}/vae/1/CARD.md"},
        ConfigError,
        "--cache-dir {root}/vae/1/CARD.md: File exists",
    ),
    *(
        (nothing, url, {}, OptionError, f"--repository {url}: {SCHEMES}")
        for url in ("ftp://host/models", "http://host/models", "memory://models", "://models")
    ),
]


@pytest.mark.parametrize(("prepare", "place", "options", "kind", "message"), NO_START)
async def test_what_no_server_can_start_with_is_told_in_one_line(
    tmp_path: Path, prepare: Prepare, place: str, options: dict[str, Any], kind: type[StartupError], message: str
) -> None:
    root = tmp_path / "models"
    facts = {"root": root} | (prepare(root) or {})

    def filled(text: Any) -> Any:
        return text.format(**facts) if isinstance(text, str) else text

    with pytest.raises(StartupError) as caught:
        async with running_server(filled(place), **{name: filled(value) for name, value in options.items()}):
            pass
    assert (type(caught.value), str(caught.value)) == (kind, filled(message))


MISSING, AWAY = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE
UNWANTED = "the version policy latest:1 does not want it"
NO_ANSWER: list[tuple[dict[str, Any], grpc.StatusCode, str]] = [
    ({"version": 9}, MISSING, "model 'vae' has no version 9"),
    ({"alias": "old"}, MISSING, "model 'vae' has no alias 'old'"),
    ({"alias": ""}, MISSING, "model 'vae' has no alias ''"),
    ({"name": "gan"}, MISSING, "model 'gan' is not in the repository"),
    ({"name": "../vae"}, MISSING, "model '../vae' is not in the repository"),
    ({"name": "VAE"}, MISSING, "model 'VAE' is not in the repository"),
    ({"version": 1}, AWAY, f"model 'vae' version 1 is unavailable: {UNWANTED}"),
    ({"version": 2}, AWAY, "model 'vae' version 2 is unavailable: unloaded on request"),
    ({"version": 4}, AWAY, f"model 'vae' version 4 is unavailable: {BROKEN}"),
    (
        {"alias": "next"},
        AWAY,
        f"alias 'next' of model 'vae' names version 4: model 'vae' version 4 is unavailable: {BROKEN}",
    ),
    ({"alias": "ghost"}, AWAY, "alias 'ghost' of model 'vae' names version 9: there is no such version"),
]


@pytest.mark.parametrize(("model", "code", "message"), NO_ANSWER, ids=str)
async def test_a_caller_whom_no_version_answers_is_told_why(
    tmp_path: Path, model: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    shelf = Shelf.of(tmp_path, 1, 2, 3)
    shelf.publish(4, 4, broken=True)
    (shelf.model / "aliases.json").write_text('{"next": 4, "ghost": 9}')
    async with admin_server(shelf) as server:
        await server.unload(2)
        request = pb.SampleRequest(model=pb.ModelRef(**({"name": "vae"} | model)), count=1)
        assert await refusal(server.served.generation.Sample(request), code) == message
