"""How far ahead of the client's reader a stream is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_server import running_server
from tiny_bundle import TinyModel

from latentserve.v1 import models_pb2
from latentserve_client import AsyncClient

ROWS = 64
"""Rows of images that make one mebibyte, which is what the client lets the server send ahead."""


@pytest.mark.parametrize("read", [1, 30])
async def test_a_stream_is_made_no_further_than_its_reader_lets_it(tmp_path: Path, read: int) -> None:
    TinyModel(height=64, width=64).write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_batch_rows=ROWS, metrics_listen="127.0.0.1:0") as served:
        async with (
            AsyncClient(f"127.0.0.1:{served.server.port}") as client,
            client.stream_samples("vae", 1 << 40, chunk_rows=ROWS) as stream,
        ):
            for _ in range(read):
                await anext(stream)
            for _ in range(200):  # for which a server that goes on has made many a chunk
                await served.models.ListModels(models_pb2.ListModelsRequest())
            made = await served.metric("batch_rows_sum", graph="decoder") / ROWS
        # One in the window, one at its end, and one that is made meanwhile.
        assert made - read <= 3
