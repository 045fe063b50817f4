"""Saved models of other libraries: imported with their library at hand, and compared with what it computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from running_server import running_server

from latentserve_client import AsyncClient, ModelInfo

_PROGRAM = """
import json, sys
sys.path.append(sys.argv[1])
from latentserve_training.commands import import_model
codes = {name: import_model(words) for name, words in json.loads(sys.argv[2]).items()}
print(json.dumps(codes))
"""


class Touch:
    """As it is unpickled it leaves a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self._path,))


@dataclass(frozen=True)
class Imports:
    """What came of imports, which one process made, one after another."""

    repository: Path
    codes: Mapping[str, int]
    printed: str
    said: str

    def refusals(self, name: str) -> list[str]:
        """The errors that name the model's path, which ends so."""
        return [line for line in self.said.splitlines() if "error: " in line and f"/{name}" in line]


def import_saved(
    library: Path, repository: Path, models: Mapping[str, Sequence[str | Path]], **variables: str
) -> Imports:
    """Run latentserve-import for every model, with the packages in `library` behind the environment's own.

    The models are words of a command line, by name; importing torch and the library takes longer than most of them.
    """
    place = ["--repository", str(repository), "--name"]
    commands = {name: [*map(str, words), *place, name] for name, words in models.items()}
    command = [sys.executable, "-c", _PROGRAM, str(library), json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    *printed, codes = done.stdout.splitlines()
    return Imports(repository, json.loads(codes), "\n".join(printed), done.stderr)


async def served(repository: Path, name: str, expected: Path) -> tuple[ModelInfo, dict[str, float]]:
    """The repository's model as a server has it, and how far each of its answers is from the archive, at most.

    Latents of numbers are row 0 of their seeds, so images are sampled, of a model that draws from N(0, I), and decoded.
    Of codes it is the share that is wrong.
    """
    with np.load(expected) as archive:
        wanted = dict(archive)
    async with running_server(repository) as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        info = await client.model(name)
        found = await _answers(client, info, wanted)
    wanted["decoded"] = wanted["images"]
    assert found.keys() & {"mean", "log_variance", "codes"} == wanted.keys() & {"mean", "log_variance", "codes"}
    return info, {answer: _difference(values, wanted[answer]) for answer, values in found.items()}


async def _answers(client: AsyncClient, model: ModelInfo, given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    labels = given.get("labels")
    found = {"decoded": (await client.decode(model.name, given["latents"], labels=labels)).images}
    if model.prior == "standard_normal":
        drawn = []
        for seed in range(len(given["images"])):
            label = None if labels is None else [int(labels[seed])]
            drawn.append((await client.sample(model.name, 1, seed=seed, labels=label)).images)
        found["images"] = np.concatenate(drawn)
    if "pixels" in given:
        posterior = await client.encode(model.name, given["pixels"])
        told = {"mean": posterior.mean, "log_variance": posterior.log_variance, "codes": posterior.codes}
        found |= {name: values for name, values in told.items() if values is not None}
        found["reconstruction"] = (await client.reconstruct(model.name, given["pixels"])).images
    return found


def _difference(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    assert found.size == wanted.size
    wanted = wanted.reshape(found.shape)
    return float(np.mean(found != wanted) if found.dtype.kind == "i" else np.abs(found - wanted).max())
