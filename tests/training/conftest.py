"""Small real runs: 8x8 digits, a few epochs, every family, trained by the command itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from training.small_runs import arguments

from latentserve_training import commands


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
