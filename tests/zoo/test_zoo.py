"""Every model of the zoo, served: the pictures and posteriors are those that its own framework computes.

`make test-zoo` runs this. Each library builds its models with seeded weights and exports them in an environment of its
own; `latentserve-import` makes bundles of them, and one server process serves each. The table is printed at the end
and kept in benchmarks/results/zoo.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
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
LIMIT = 1e-4
"""How far a pixel in [0, 1], a mean or a log-variance may be from the framework's."""
INSIDE = 0.2
"""The share of pixels that lie within the range, at least: a comparison of clipped ones would show nothing."""
SPREAD = 0.01
"""The least mean deviation of a pixel from seed to seed: grey pictures would agree with anything."""
SECONDS = 900

Arrays = Mapping[str, NDArray[Any]]


class RefusedError(Exception):
    """`latentserve-import` refused a model."""


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """From a model to the folder that its user has; each program runs once and writes all of its models."""
    place = tmp_path_factory.mktemp("zoo")

    @cache
    def write(program: str, environment: str, backend: str) -> Path:
        folder = place / f"{program}{backend}"
        python = ROOT / ".venv" / f"zoo-{environment}" / "bin" / "python"
        script = Path(__file__).parent / "libraries" / f"{program}.py"
        variables = {"KERAS_BACKEND": backend} if backend else {}
        subprocess.run(
            [python, "-W", "ignore", script, folder],
            check=True,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            timeout=SECONDS,
        )
        return folder

    return lambda model: write(model.program, model.environment, model.backend) / model.name


@pytest.fixture(scope="session")
def table() -> Iterator[dict[str, dict[str, Any]]]:
    """What was found of each model, by name; printed and kept when the last one is done."""
    found: dict[str, dict[str, Any]] = {}
    yield found
    rows = [{"model": model.name, **found[model.name]} for model in MODELS if model.name in found]
    print("\n| model | library | export | adapted | largest difference |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['model']} | {row['library']} | {row['export']} | {row['adapted']} | {row['outcome']} |")
    if len(rows) == len(MODELS):
        (ROOT / "benchmarks" / "results" / "zoo.json").write_text(json.dumps(rows, indent=1) + "\n")


def _missing(model: Model) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(raises=RefusedError, reason=model.missing)] if model.missing else []


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, id=model.name, marks=_missing(model)) for model in MODELS],
)
async def test_the_served_model_is_the_one_of_its_framework(
    model: Model, exports: Any, table: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    folder = exports(model)
    row = table[model.name] = {"library": model.library, "export": model.export, "adapted": model.adapted}
    row["versions"] = json.loads((folder.parent / "versions.json").read_text())
    row["outcome"] = f"missing: {model.missing}" if model.missing else "failed"
    assert not (folder / "error.txt").exists(), (folder / "error.txt").read_text()
    with np.load(folder / "reference.npz") as archive:
        reference = dict(archive)
    description = yaml.safe_load((folder / "model.yaml").read_text())
    _import(folder / "model.yaml", tmp_path)
    async with server_process(tmp_path) as server:
        ready = await server.log("serving on port")
        async with AsyncClient(f"127.0.0.1:{ready['port']}") as client:
            served = await _served(client, reference)
    differences = {name: _difference(name, values, reference, description) for name, values in served.items()}
    row["differences"] = differences
    assert max(differences.values()) <= LIMIT, differences
    row["outcome"] = f"{max(differences.values()):.1e}"


def _import(description: Path, repository: Path) -> None:
    tool = str(Path(sys.executable).parent / "latentserve-import")
    command = [tool, str(description), "--repository", str(repository), "--name", "model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise RefusedError(done.stderr)


async def _served(client: AsyncClient, reference: Arrays) -> dict[str, NDArray[Any]]:
    """What the server answers where the framework has an answer, under the reference's names."""
    served: dict[str, NDArray[Any]] = {}
    if "images" in reference:
        labels = reference.get("labels")
        calls = (
            client.sample("model", 1, seed=seed, labels=None if labels is None else [int(labels[seed])])
            for seed in range(len(reference["images"]))
        )
        drawn = await asyncio.gather(*calls)
        served["images"] = np.concatenate([one.images for one in drawn])
    if "pixels" in reference:
        posterior = await client.encode("model", reference["pixels"])
        served["mean"] = posterior.mean
        if "log_variance" in reference:
            served["log_variance"] = posterior.log_variance
        served["reconstruction"] = (await client.reconstruct("model", reference["pixels"])).images
    return served


def _difference(name: str, served: NDArray[Any], reference: Arrays, description: Mapping[str, Any]) -> float:
    """The largest difference from the framework's values, pixels being brought to [0, 1] with channels first."""
    own = reference[name].astype(np.float64)
    if name in ("images", "reconstruction"):
        low, high = description.get("image_range", (0, 1))
        own = (own - low) / (high - low)
        own = own.transpose(0, 3, 1, 2) if own.ndim == 4 and description.get("layout") == "nhwc" else own
        assert np.mean((own > 0) & (own < 1)) >= INSIDE, "too many pixels of the framework's are beyond the range"
        own = np.clip(own, 0, 1) if description.get("clip") else own
        assert own.reshape(len(own), -1).std(axis=0).mean() >= SPREAD, "the framework's pictures are all alike"
    assert own.size == served.size
    return float(np.abs(served - own.reshape(served.shape)).max())
