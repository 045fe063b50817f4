"""The device that the servers of the tests run on."""

from __future__ import annotations

import pytest
import running_server

ON_CPU_ALONE = "what is promised on the CPU alone: the same bits in any company"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=["cpu", "cuda"], default="cpu", help="where the tests' servers run graphs")


def pytest_configure(config: pytest.Config) -> None:
    running_server.DEFAULTS["device"] = config.getoption("--device")
    config.addinivalue_line("markers", f"cpu_alone: {ON_CPU_ALONE}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") != "cpu":
        for item in items:
            if item.get_closest_marker("cpu_alone"):
                item.add_marker(pytest.mark.skip(reason=ON_CPU_ALONE))
