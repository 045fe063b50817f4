"""Every model of the zoo, served: the pictures and posteriors are those that its own framework computes.

`make test-zoo` runs this. Each library builds its models with seeded weights and exports them in an environment of its
own; `latentserve-import` makes bundles of them, and one server process serves each. What is found is kept in
benchmarks/results/zoo.json and docs/zoo.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from server_process import server_process
from zoo.models import MODELS, Model

from latentserve_client import AsyncClient

ROOT = Path(__file__).parents[2]
ZOO = Path(__file__).parent
KEPT = ROOT / "build" / "zoo"
"""Where exports stay, for they take most of the time."""
LIMIT = 1e-4
"""How far a pixel in [0, 1], a mean or a log-variance may be from the framework's."""
INSIDE = 0.2
"""The share of pixels that lie within the range, at least: a comparison of clipped ones would show nothing."""
SPREAD = 0.01
"""The least mean deviation of a pixel from seed to seed: grey pictures would agree with anything."""
SECONDS = 3600
"""What a program, an import or a call takes at most, on a machine that is busy with others."""

Arrays = Mapping[str, NDArray[Any]]
Served = dict[str, NDArray[Any]]


class RefusedError(Exception):
    """`latentserve-import` refused a model."""


def _exported(model: Model) -> Path:
    """The folder that the model's user has. Each program runs once, and again when it or its packages change."""
    others = {other.program for other in MODELS} - {model.program}
    sources = [path for path in sorted((ZOO / "libraries").glob("*.py")) if path.stem not in others]
    sources += [ROOT / "tests" / "support" / "plain_noise.py", ZOO / "environments" / f"{model.environment}.txt"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    folder = KEPT / f"{model.program}{model.backend}-{digest}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not (folder / "versions.json").exists():  # which is written last
            shutil.rmtree(folder, ignore_errors=True)
            _export(model, folder)
    return folder / model.name


def _export(model: Model, folder: Path) -> None:
    python = ROOT / ".venv" / f"zoo-{model.environment}" / "bin" / "python"
    script = ZOO / "libraries" / f"{model.program}.py"
    variables = {"KERAS_BACKEND": model.backend} if model.backend else {}
    subprocess.run(
        [python, "-W", "ignore", script, folder],
        check=True,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        timeout=SECONDS,
    )


def _marks(model: Model) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(raises=RefusedError, reason=model.missing)] if model.missing else []


@pytest.mark.parametrize("model", [pytest.param(model, id=model.name, marks=_marks(model)) for model in MODELS])
async def test_the_served_model_is_the_one_of_its_framework(
    model: Model, record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    row: dict[str, Any] = {"model": model.name, "outcome": "failed"}
    record_property("zoo", row)
    folder = _exported(model)
    row["versions"] = json.loads((folder.parent / "versions.json").read_text())
    assert not (folder / "error.txt").exists(), (folder / "error.txt").read_text()
    with np.load(folder / "reference.npz") as archive:
        reference = dict(archive)
    description = yaml.safe_load((folder / "model.yaml").read_text())
    if refusal := _import(folder / "model.yaml", tmp_path):
        row["outcome"] = f"refused: {model.missing}"
        assert model.missing, refusal
        assert model.missing in refusal
        raise RefusedError(refusal)
    async with server_process(tmp_path) as server:
        ready = await server.log("serving on port")
        async with AsyncClient(f"127.0.0.1:{ready['port']}", timeout=SECONDS) as client:
            served = await _generated(client, reference, description) | await _inferred(client, reference)
    expected = _expected(reference, description)
    differences = {name: _difference(expected[name], values) for name, values in served.items()}
    row["differences"] = differences
    assert max(differences.values()) <= LIMIT, differences
    row["outcome"] = "served"


def _import(description: Path, repository: Path) -> str:
    """Make a bundle; what the command says of a model that it refuses, otherwise nothing."""
    tool = str(Path(sys.executable).parent / "latentserve-import")
    command = [tool, str(description), "--repository", str(repository), "--name", "model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    return done.stderr if done.returncode else ""


async def _generated(client: AsyncClient, reference: Arrays, description: Mapping[str, Any]) -> Served:
    """Images of every seed, where latents can be drawn, and of the latents or codes as they are."""
    served: Served = {}
    labels = reference.get("labels")
    if description["kind"] in ("vae", "gan"):
        calls = (
            client.sample("model", 1, seed=seed, labels=None if labels is None else [int(labels[seed])])
            for seed in range(len(reference["images"]))
        )
        served["images"] = np.concatenate([one.images for one in await asyncio.gather(*calls)])
    given = reference["codes"] if "codes" in reference else reference["latents"]
    served["decoded"] = (await client.decode("model", given, labels=labels)).images
    return served


async def _inferred(client: AsyncClient, reference: Arrays) -> Served:
    """Posteriors, latents or codes of pictures, and what they become; nothing of a model without an encoder."""
    if "pixels" not in reference:
        return {}
    posterior = await client.encode("model", reference["pixels"])
    found = {"mean": posterior.mean, "log_variance": posterior.log_variance, "codes": posterior.codes}
    assert {name for name, values in found.items() if values is not None} == found.keys() & reference.keys()
    again = await client.reconstruct("model", reference["pixels"])
    return {name: values for name, values in found.items() if values is not None} | {"reconstruction": again.images}


def _expected(reference: Arrays, description: Mapping[str, Any]) -> Served:
    """The framework's values: pictures in [0, 1] with channels first, the others as they are."""
    pictures = {
        name: _pictures(reference[name], description) for name in ("images", "reconstruction") if name in reference
    }
    if "decoded" in reference:
        pictures["decoded"] = _pictures(reference["decoded"], description)
    else:
        pictures["decoded"] = pictures["reconstruction" if "codes" in reference else "images"]
    return {**reference, **pictures}


def _pictures(own: NDArray[Any], description: Mapping[str, Any]) -> NDArray[Any]:
    low, high = description.get("image_range", (0, 1))
    own = (own.astype(np.float64) - low) / (high - low)
    own = own.transpose(0, 3, 1, 2) if own.ndim == 4 and description.get("layout") == "nhwc" else own
    assert np.mean((own > 0) & (own < 1)) >= INSIDE, "too many pixels of the framework's are beyond the range"
    own = np.clip(own, 0, 1) if description.get("clip") else own
    assert own.reshape(len(own), -1).std(axis=0).mean() >= SPREAD, "the framework's pictures are all alike"
    return own


def _difference(own: NDArray[Any], served: NDArray[Any]) -> float:
    """The largest difference from the framework's values; codes differ by 1 or not at all."""
    assert own.size == served.size
    own = own.reshape(served.shape)
    if served.dtype.kind == "i":
        return float((served != own).any())
    return float(np.abs(served - own.astype(np.float64)).max())
