"""The model "linear" on a real server in a process of its own: two versions that answer, and a broken third."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from model_shelf import write
from numpy.typing import NDArray
from plain_noise import noise_row
from server_process import COMMAND
from tested_device import device
from tiny_bundle import TinyModel

LATENT, SHAPE, MAX_ROWS = 5, (3, 4, 6), 8
_OPTIONS: dict[str, Any] = dict(zip(("channels", "height", "width"), SHAPE, strict=True)) | {"latent_dim": LATENT}
MODELS = {version: TinyModel(seed=version, **_OPTIONS) for version in (1, 2)}
"""The versions, which know what they must answer; version 2 answers who names none, and 1 is "stable"."""
_FLAGS = ("--listen=127.0.0.1:0", "--metrics-listen=off", "--cpu-threads=1", "--version-policy=all")
_LIMITS = (f"--max-rows-per-request={MAX_ROWS}", "--max-batch-rows=4")


def noise(seed: int, first_index: int, rows: int, stream: int = 0) -> NDArray[np.float32]:
    """The contract's noise, float32 [rows, LATENT]: of the prior in stream 0, of the posterior in stream 1."""
    return np.stack([noise_row(seed, stream, first_index + row, LATENT) for row in range(rows)])


def pictures(count: int) -> NDArray[np.uint8]:
    """Images of random pixels, uint8 [count, *SHAPE]."""
    return MODELS[1].random_images(count)


def to_uint8(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images in [0, 1] in 8 bits, as the contract rounds them."""
    return np.rint(images * 255).astype(np.uint8)


@contextmanager
def served_linear(repository: Path) -> Iterator[str]:
    """The address of a running server over the repository, which is made of that model's versions."""
    for version, model in MODELS.items():
        model.write(repository / "linear" / str(version))
    write(repository / "linear" / "3", 3, broken=True, **_OPTIONS)
    (repository / "linear" / "aliases.json").write_text('{"stable": 1}')
    with serving(repository) as address:
        yield address


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """The address of a running server over the repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
    command = [COMMAND, f"--repository={repository}", f"--device={device()}", *_FLAGS, *_LIMITS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            yield f"127.0.0.1:{_port(process.stderr)}"
        finally:
            process.kill()


def _port(log: IO[str]) -> int:
    """The port that a server's log names; a thread then reads the rest, so that the pipe is never full."""
    lines: list[str] = []
    for line in log:
        lines.append(line)
        if line.startswith("{") and (record := json.loads(line))["message"].startswith("serving on port"):
            threading.Thread(target=log.read, daemon=True).start()
            return int(record["port"])
    raise AssertionError("the server ended without serving:\n" + "".join(lines))
