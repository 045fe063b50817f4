"""A file of tokens, and a server that asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from access_tokens import TokenShelf
from running_server import RunningServer, running_server


@pytest.fixture
def tokens(tmp_path: Path) -> TokenShelf:
    return TokenShelf(tmp_path / "tokens.yaml")


@pytest.fixture
async def guarded(repository: Path, tokens: TokenShelf) -> AsyncIterator[RunningServer]:
    """A server over the three models, with metrics, that knows the tokens which the shelf has when it starts."""
    tokens.add("somebody")
    async with running_server(repository, tokens=str(tokens.path), metrics_listen="127.0.0.1:0") as served:
        yield served
