"""Small real runs: 8x8 digits, a few epochs, every family, trained by the command itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from latentserve_training import commands

UNJUDGED = ["--model.min_diversity", "0"]
"""Of a GAN whose few steps draw much the same image from every latent."""
CONV_GAN = ["--model.latent_dim", "8", "--model.width", "8", "--model.dense", "16", *UNJUDGED]
SMALL = {
    "conv_vae": ["--model.latent_dim", "8", "--model.narrow", "8", "--model.wide", "8", "--model.dense", "16"],
    "mlp_vae": ["--model.wide", "32", "--model.narrow", "16"],
    "mlp_gan": [
        *("--model.latent_dim", "8", "--model.generator_width", "32", "--model.discriminator_width", "32", *UNJUDGED)
    ],
    "cvae": [
        "--model.latent_dim",
        "4",
        "--model.label_dim",
        "4",
        "--model.narrow",
        "8",
        "--model.wide",
        "8",
        "--model.dense",
        "16",
    ],
    "dcgan": CONV_GAN,
    "wgan_gp": [*CONV_GAN, "--model.game.discriminator_steps", "3"],
    "cgan": [*CONV_GAN, "--model.label_dim", "4"],
}


def arguments(family: str, output: Path, *more: str) -> list[str]:
    """The command line of a run that takes a second: five steps an epoch."""
    return [
        *("--model.family", family, *SMALL[family]),
        *("--data.size", "8", "--trainer.epochs", "3", "--trainer.batch_size", "256", "--trainer.precision", "float32"),
        *("--output", str(output), *more),
    ]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a finished run of a family; trained once, not to be changed."""
    runs: dict[str, Path] = {}

    def run(family: str) -> Path:
        if family not in runs:
            output = tmp_path_factory.mktemp("runs") / family
            assert commands.train(arguments(family, output)) == 0
            runs[family] = output
        return runs[family]

    return run


@pytest.fixture(scope="session")
def exported(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of a finished run of a family; exported once, not to be changed."""
    repository = tmp_path_factory.mktemp("repository")
    bundles: dict[str, Path] = {}

    def bundle(family: str) -> Path:
        if family not in bundles:
            assert commands.export([str(trained(family)), "--repository", str(repository)]) == 0
            bundles[family] = repository / family / "1"
        return bundles[family]

    return bundle
