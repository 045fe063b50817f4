"""What a run finds of the zoo's models, kept as it is found; rows of models that it leaves out stay as they are."""

from __future__ import annotations

import pytest
from zoo.page import keep


class _Findings:
    """The rows of the tests, from all processes that share them."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a row as its test ends."""
        rows = [row for name, row in report.user_properties if name == "zoo" and isinstance(row, dict)]
        if report.when == "call" and rows:
            keep(rows)


def pytest_configure(config: pytest.Config) -> None:
    """Listen in the process that was called, not in those that share its tests."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Findings())
