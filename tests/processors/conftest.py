"""The processors that the tests go through; skipped, in words, where they cannot be emulated."""

from __future__ import annotations

import pytest
from processors import emulator


@pytest.fixture(scope="session", params=emulator.EMULATED)
def processor(request: pytest.FixtureRequest) -> str:
    """One emulated processor after the other."""
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (reason := emulator.why_not()) is not None:
        for item in items:
            if "processors" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=reason))
