"""The command: what it says when it starts, while it serves, and when it cannot."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_server import channel_to, scrape
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another process listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def complaint(repository: Path, *flags: str) -> str:
    """The one line, beside the log's, with which the command leaves."""
    async with server_process(repository, *flags) as process:
        assert await process.exit_status() == 1
        (line,) = process.complaints()
        assert line.startswith("latentserve-server: ")
        return line


async def test_a_missing_repository_is_one_line(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'}: " in await complaint(tmp_path / "none")


async def test_a_repository_of_broken_bundles_alone_is_one_line(tmp_path: Path) -> None:
    bundle = TinyModel().write(tmp_path / "vae" / "1")
    (bundle / "manifest.json").write_text('{"unknown": 1}')
    assert "vae/1: manifest.json: unknown " in await complaint(tmp_path)


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
async def test_a_port_in_use_is_one_line(repository: Path, taken: int, flag: str) -> None:
    assert f"{flag} 127.0.0.1:{taken}: " in await complaint(repository, f"{flag}=127.0.0.1:{taken}")


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
async def test_an_address_of_another_machine_is_one_line(repository: Path, flag: str) -> None:
    assert f"{flag} 192.0.2.1:80: " in await complaint(repository, f"{flag}=192.0.2.1:80")


async def test_a_call_leaves_a_log_line_and_a_metric(repository: Path) -> None:
    async with server_process(repository, "--metrics-listen=127.0.0.1:0") as process:
        ready = await process.log("serving on port")
        async with channel_to(ready["port"]) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            metadata = [("x-request-id", "job-17")]
            request = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
            await stub.Sample(request, metadata=metadata)
            line = await process.log("Sample OK")
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Sample(pb.SampleRequest(model=request.model), metadata=metadata)
            refused = await process.log("Sample count: 0 rows")
        shown = scrape(ready["metrics_port"])
        assert 'latentserve_requests_total{code="OK",method="Sample",model="vae"} 1.0' in shown
    expected: dict[str, Any] = {"level": "INFO", "method": "Sample", "model": "vae", "request_id": "job-17"}
    assert expected | {"code": "OK"} == {key: line[key] for key in (*expected, "code")}
    assert expected | {"code": "INVALID_ARGUMENT"} == {key: refused[key] for key in (*expected, "code")}
    assert 0 < line["seconds"] < 60
    assert not process.complaints()


async def test_a_failure_in_a_graph_is_logged_as_an_error(tmp_path: Path) -> None:
    TinyModel(fragile=True, latent_dim=1).write(tmp_path / "vae" / "1")
    async with server_process(tmp_path, "--access-log=false") as process:
        ready = await process.log("serving on port")
        async with channel_to(ready["port"]) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            latents = {"dtype": "DTYPE_FLOAT32", "shape": [1, 1], "data": b"\0\0\xc8\x42"}  # 100.0
            request = pb.DecodeRequest(model=pb.ModelRef(name="vae"), latents=latents)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Decode(request)
        assert (await process.log("Decode"))["level"] == "ERROR"
