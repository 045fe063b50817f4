"""A repository of small models, and what a job wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import TinyModel

from latentserve_bulk.cli import main

Command = Callable[..., tuple[int, str, str]]

MODELS = {
    "vae": TinyModel(),
    "calibrated": TinyModel(quantiles=tuple(np.linspace(5, 40, 101))),
    "gan": TinyModel(kind="gan"),
    "conditional": TinyModel(labels=3, channels=3, conv=True),
    "fragile": TinyModel(fragile=True),
    "codes": TinyModel(kind="vq", codes=8, noise_dim=4, latent_dim=6, latent_shape=(2, 3)),
    "many": TinyModel(channels=5, components=2),
}


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of each of `MODELS`. Not to be changed: tests share it."""
    root = tmp_path_factory.mktemp("models")
    for name, model in MODELS.items():
        model.write(root / name / "1")
    return root


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process; gives the exit code and what was printed, and said on standard error."""

    def command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:  # argparse's
            status = int(ended.code or 0)
        return status, *capsys.readouterr()

    return command
