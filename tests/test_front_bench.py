"""The benchmark of the front reads h2load rightly and judges by what was measured."""

from __future__ import annotations

import importlib
import json
import math
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import grpc
import pytest

ROOT = Path(__file__).parent.parent

SUMMARY = """
finished in 723.10ms, 1383.00 req/s, 1.10MB/s
requests: 1000 total, 1000 started, 1000 done, 990 succeeded, 10 failed, 4 errored, 0 timeout
status codes: 990 2xx, 0 3xx, 2 4xx, 4 5xx
traffic: 24.76MB (25959281) total, 88.48KB (90600) headers (space savings 96.27%), 23.80MB (24960000) data
"""


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's modules."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    names = (
        "figures",
        "goals",
        "growth",
        "growth_report",
        "load",
        "open_loop",
        "processes",
        "report",
        "rounds",
        "security",
    )
    return SimpleNamespace(**{name: importlib.import_module(f"front.{name}") for name in names})


def test_a_summary_of_h2load_is_read(front: SimpleNamespace) -> None:
    report = front.load.parse(SUMMARY)
    assert (report.succeeded, report.not_2xx, report.data_bytes) == (990, 6, 24_960_000)
    assert report.seconds == pytest.approx(0.7231)


@pytest.mark.parametrize("missing", ["finished", "requests:", "status codes:", "traffic:"])
def test_a_summary_without_one_of_its_lines_is_refused(front: SimpleNamespace, missing: str) -> None:
    cut = "\n".join(line for line in SUMMARY.splitlines() if not line.startswith(missing))
    with pytest.raises(front.processes.BenchError, match="h2load printed no summary"):
        front.load.parse(cut)


def test_a_secured_server_is_compared_with_another_one_round_by_round(front: SimpleNamespace) -> None:
    figures = front.figures.Figures()
    for plain, secured in ((1000.0, 900.0), (2000.0, 1000.0), (4000.0, 3200.0)):
        for side, rate, microseconds in (("none", plain, 100.0), ("tls", secured, 125.0)):
            figures.add(f"{side}/1.calls_per_second", rate)
            figures.add(f"{side}/1.cpu_us_a_call", microseconds)
    assert front.security.table(figures).splitlines()[2:] == [
        "| 1 row | nothing | 2,000 | 1.000 | 1.000 to 1.000 | 100 | 1.000 |",
        "| 1 row | TLS | 1,000 | 0.800 | 0.500 to 0.900 | 125 | 1.250 |",
    ]


def test_a_goal_is_judged_by_the_median_and_says_where_rounds_differ(front: SimpleNamespace) -> None:
    goal = front.goals.Goal
    figures = front.figures.Figures()
    for fast, slow in ((3.0, 1.0), (1.0, 2.0), (6.0, 3.0)):
        figures.add("fast", fast)
        figures.add("slow", slow)
    rows = front.report.judged(
        [
            goal("ratio", lambda of: of.ratios("fast", "slow"), 1.0),
            goal("time", lambda of: of.values["slow"], 1.5, at_most=True, unit="s"),
            goal("all good", lambda of: of.values["fast"], 0.5),
            goal("later", None, 2.0, note="wants more cores"),
        ],
        figures,
    )
    assert front.report.table(rows).splitlines()[2:] == [
        "| ratio | >= 1 | 2 | 0.5 to 3 | yes, but rounds differ |",
        "| time | <= 1.5 s | 2 s | 1 to 3 | no, but rounds differ |",
        "| all good | >= 0.5 | 3 | 1 to 6 | yes |",
        "| later | >= 2 | not measured | wants more cores |  |",
    ]
    json.dumps(rows)


def test_growth_is_shown_by_the_call_and_by_each_of_what_grows(front: SimpleNamespace, tmp_path: Path) -> None:
    point, curve = front.growth.Point, front.growth.Curve
    curves = [
        curve("rows a call", [point(1, 2000.0, 180.0, 900.0, 1500.0), point(1000, 20.0, 15_000.0, 6e5, 7e5)], "row"),
        curve(
            "models",
            [point(1, 1500.0, 190.0, 2e4, 3e4, {"MiB": 58.0}), point(20, 90.0, 750.0, 2e4, 1e5, {"MiB": 194.0})],
        ),
    ]
    assert front.growth_report.tables(curves).splitlines() == [
        "| rows a call | calls/s | CPU us a call | CPU us a row | p50 ms | p99 ms |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1 | 2,000 | 180 | 180 | 0.9 | 1.5 |",
        "| 1,000 | 20 | 15,000 | 15 | 600 | 700 |",
        "",
        "| models | calls/s | CPU us a call | p50 ms | p99 ms | MiB |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1 | 1,500 | 190 | 20 | 30 | 58 |",
        "| 20 | 90 | 750 | 20 | 100 | 194 |",
    ]
    front.growth_report.picture(curves, tmp_path / "growth.svg")
    drawn = ElementTree.parse(tmp_path / "growth.svg").getroot()  # noqa: S314  # what was drawn just before
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"


class Answers(grpc.GenericRpcHandler):
    """Every call is answered with so many bytes, or refused."""

    def __init__(self, size: int) -> None:
        self.size, self.calls = size, 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        assert request == b"right"
        return bytes(self.size)


@contextmanager
def answering(size: int) -> Iterator[tuple[Answers, str]]:
    answers, server = Answers(size), grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((answers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield answers, f"127.0.0.1:{port}"
    server.stop(None).wait()


def in_an_open_loop(target: str, request: Path, calls: int, per_second: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "front.open_loop", target, "/a.B/C", str(request)]
    command += [str(calls), str(per_second), "3", "1"]
    return subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("size", [10, 100_000])
def test_every_call_of_an_open_loop_is_sent_and_its_answer_counted(tmp_path: Path, size: int) -> None:
    request = tmp_path / "request"
    request.write_bytes(b"\0" + (5).to_bytes(4, "big") + b"right")
    with answering(size) as (answers, target):
        done = in_an_open_loop(target, request, 300, 1000.0)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert answers.calls == len(measured["latencies"]) == len(measured["late"]) == 300
    assert measured["data_bytes"] == 300 * (5 + size)
    assert min(measured["late"]) >= 0
    assert all(latency > 0 for latency in measured["latencies"])


def test_an_open_loop_takes_its_time_from_the_rate(front: SimpleNamespace) -> None:
    times = front.open_loop.arrivals(20_000, 100.0, seed=3)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.01, rel=0.05)
    assert sum(gap > 0.01 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), rel=0.05)
    assert times != front.open_loop.arrivals(20_000, 100.0, seed=4)


def test_an_open_loop_without_a_server_says_so_in_a_line(tmp_path: Path) -> None:
    request = tmp_path / "request"
    request.write_bytes(bytes(5))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = in_an_open_loop(f"127.0.0.1:{nobody.getsockname()[1]}", request, 1, 1.0)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["open loop: [Errno 111] Connection refused"]


def test_an_environment_without_triton_is_told_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "front", "--repository", str(tmp_path), "--environments", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"bench: {tmp_path / 'triton'} has no Triton: `make bench` installs it there\n"
