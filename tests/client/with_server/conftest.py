"""Tests that call a server of the project: passed over where its packages are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("latentserve_server") and find_spec("onnxruntime") else ["*"]


@pytest.fixture(scope="session")
def linear_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the model "linear", which no test changes."""
    from client.served_linear import served_linear

    with served_linear(tmp_path_factory.mktemp("served") / "models") as address:
        yield address


@pytest.fixture
def target(linear_server: str) -> str:
    """The address of that server, for the clients and the command of the fixtures above this folder."""
    return linear_server
