"""The log is one JSON object a line, whoever writes it, and says ERROR of nothing that is none."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from relay import relay_to
from running_server import channel_to
from server_process import ServerProcess, server_process
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

OPEN_A_GRAPH = """
import onnx.parser, onnxruntime
text = '<ir_version: 10, opset_import: ["": 18]> g (float[n] x) => (float[n] y) <float unused = {0}> { y = Sin(x) }'
onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), providers=["CPUExecutionProvider"])
"""


def logged(script: str, level: str = "info") -> list[dict[str, Any]]:
    """What the script logs to standard error, one object a line."""
    text = "\n".join(f"    {line}" for line in script.splitlines())
    program = f"from latentserve_server.telemetry.logs import *\nwith log_to_standard_error({level!r}, 'json'):\n{text}"
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_what_onnxruntime_says_is_a_log_line_at_its_level() -> None:
    (line,) = logged(OPEN_A_GRAPH)
    assert (line["level"], line["logger"]) == ("WARNING", "onnxruntime")
    assert line["message"].startswith("Removing initializer 'unused'.")
    assert logged(OPEN_A_GRAPH, "error") == []


@pytest.mark.parametrize(
    ("written", "logger", "level", "message"),
    [
        ("\x1b[31m2026-01-02 03:04:05.67 [E:onnxruntime:x, a.cc:1 f] no GPU\x1b[m", "onnxruntime", "WARNING", "no GPU"),
        ("2026-01-02 03:04:05.67 [I:onnxruntime:vae, a.cc:1 f] hello", "onnxruntime", "INFO", "hello"),
        ("E0102 03:04:05.678901   12 server.cc:34] failed to accept", "grpc", "WARNING", "failed to accept"),
        ("what anyone prints", "stderr", "WARNING", "what anyone prints"),
    ],
)  # fmt: skip
def test_lines_of_libraries_are_read(written: str, logger: str, level: str, message: str) -> None:
    (line,) = logged(f"os.write(2, {written.encode()!r})\nos.write(2, b'\\n\\n')")
    assert (line["logger"], line["level"], line["message"]) == (logger, level, message)


def test_nobody_waits_for_a_line_of_a_library_and_bytes_that_are_no_text_are_shown() -> None:
    """More than a pipe holds, at once."""
    lines = logged("os.write(2, b'\\xff\\n' + b'x' * (1 << 20))")
    assert lines[0]["message"] == "\\xff"


@pytest.mark.slow
async def test_what_grpcs_core_says_is_a_log_line(repository: Path) -> None:
    async with server_process(repository) as process:
        port = (await process.log("serving on port"))["port"]
        async with channel_to(port) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest())
            limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
            with socket.create_connection(("127.0.0.1", port)):  # which cannot be accepted
                said = await process.log("File descriptor limit reached")
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        assert said["logger"] == "grpc"
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
        assert not process.complaints()


async def test_callers_who_leave_as_their_answers_do_are_no_error(tmp_path: Path) -> None:
    TinyModel(height=64, width=64).write(tmp_path / "vae" / "1")
    async with server_process(tmp_path) as process:
        port = (await process.log("serving on port"))["port"]
        for _ in range(5):
            await leave_as_the_answers_do(process, port)
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
    assert not process.complaints()
    assert [record for record in records_of(process) if record["level"] == "ERROR" or "exc_info" in record] == []


async def leave_as_the_answers_do(process: ServerProcess, port: int) -> None:
    """Break a connection while answers are on their way that nobody reads; then the next caller is answered."""
    small, large = (pb.SampleRequest(model=pb.ModelRef(name="vae"), count=count) for count in (1, 64))
    async with relay_to(port) as relay:
        channel = channel_to(relay.port)
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        await stub.Sample(small)
        await process.log("Sample OK")
        relay.reading.clear()
        calls = [stub.Sample(large) for _ in range(20)]
        for _ in calls:
            await process.log("Sample OK")
    await channel.close()
    await asyncio.gather(*calls, return_exceptions=True)
    async with channel_to(port) as channel:
        await generation_pb2_grpc.GenerationServiceStub(channel).Sample(small)
    await process.log("Sample OK")


def records_of(process: ServerProcess) -> list[dict[str, Any]]:
    """The lines of its log so far."""
    return [json.loads(line) for line in process.lines if line.startswith("{")]


async def test_a_crash_leaves_its_stacks(repository: Path) -> None:
    async with server_process(repository) as process:
        await process.log("serving on port")
        process.signal(signal.SIGSEGV)
        assert await process.exit_status() == -signal.SIGSEGV
        assert process.complaints()[0] == "Fatal Python error: Segmentation fault"
