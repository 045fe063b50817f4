"""What a run finds of the zoo's models, kept as it is found; rows of models that it leaves out stay as they are."""

from __future__ import annotations

import pytest
from zoo.models import MODELS
from zoo.page import Row, keep, table


class _Findings:
    """The rows of the tests, from all processes that share them."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a row as its test ends."""
        rows = [row for name, row in report.user_properties if name == "zoo" and isinstance(row, dict)]
        if report.when == "call" and rows:
            keep(rows)
            self._rows += rows

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of the models of this run."""
        if self._rows:
            order = {model.name: place for place, model in enumerate(MODELS)}
            terminalreporter.write_line(f"\n{table(sorted(self._rows, key=lambda row: order[row['model']]))}")


def pytest_configure(config: pytest.Config) -> None:
    """Listen in the process that was called, not in those that share its tests."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Findings())
