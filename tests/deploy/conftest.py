"""The documents that kustomize makes, once for all tests of a process."""

from __future__ import annotations

import pytest
from deploy.rendering import NAMES, Document, render_all


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Document]]:
    """Every rendering, by its name."""
    return render_all(tmp_path_factory.mktemp("combinations"))


@pytest.fixture(params=NAMES)
def documents(request: pytest.FixtureRequest, rendered: dict[str, list[Document]]) -> list[Document]:
    """Each rendering in turn."""
    return rendered[request.param]
