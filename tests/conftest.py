"""The device that the servers of the tests run on, what is slow, and a server over a shelf of models that change."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from tested_device import VARIABLE, problem

if TYPE_CHECKING:
    from admin_server import AdminServer
    from model_shelf import Shelf

SLOW = "takes seconds: trains, starts processes or builds packages; `make test-quick` leaves it out"
WHERE_MODELS_ARE_TRAINED = (
    "training/commands/test_output.py",
    "training/commands/test_signals.py",
    "training/evaluation",
    "training/export",
    "training/foreign/test_import_pythae.py",
    "training/models/test_learning.py",
    "training/run",
)
"""Files and folders whose tests are slow without saying so: they share runs that one of them has to train."""
CPU_ONLY = "cpu_only(why): what is so on the CPU alone, and why; left out with --device cuda"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=["cpu", "cuda"], default="cpu", help="where the tests' servers run graphs")


def pytest_configure(config: pytest.Config) -> None:
    os.environ[VARIABLE] = config.getoption("--device")
    if why := problem():
        raise pytest.UsageError(why)
    # PyTorch's threads spin while they wait, and there is a process of tests for every core. NumPy keeps its threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A make that a test runs is no part of the one that may have started the tests.
    os.environ.pop("MAKEFLAGS", None)
    # A shell starts what runs in the background with SIGINT ignored; processes that tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No example fails for being slow: a machine that other work uses too is no finding.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    config.addinivalue_line("markers", CPU_ONLY)
    config.addinivalue_line("markers", f"slow: {SLOW}")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    slow = [tests / place for place in WHERE_MODELS_ARE_TRAINED]
    for item in items:
        if any(place in (item.path, *item.path.parents) for place in slow):
            item.add_marker(pytest.mark.slow)
        for marker in item.iter_markers("cpu_only"):
            (why,) = marker.args
            if config.getoption("--device") != "cpu":
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Version 1, with the model of seed 1."""
    from model_shelf import Shelf

    return Shelf.of(tmp_path, 1)


@pytest.fixture
async def server(shelf: Shelf) -> AsyncIterator[AdminServer]:
    """A server over the shelf, which follows it when it is told to."""
    from admin_server import admin_server

    async with admin_server(shelf) as server:
        yield server


@pytest.fixture
async def measured(shelf: Shelf) -> AsyncIterator[AdminServer]:
    """As `server`, with metrics, which take half a second to stop."""
    from admin_server import admin_server

    async with admin_server(shelf, metrics_listen="127.0.0.1:0") as server:
        yield server
