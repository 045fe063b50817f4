"""The GPU's benchmark measures what it says; shown on the CPU, where every graph can be checked."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bundle import TinyModel

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The check's modules."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    return SimpleNamespace(
        **{name: importlib.import_module(f"gpu.{name}") for name in ("environment", "suite", "watch")}
    )


def check(repository: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpu", "--device=cpu", "--batches", "1", "3", "--seconds=0.02"]
    command += ["--repository", str(repository), "--output", str(output), "--name=dry", *options]
    return subprocess.run(
        command,
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_every_graph_is_compared_and_measured_in_every_way(tmp_path: Path) -> None:
    TinyModel(conv=True).write(tmp_path / "models" / "vae" / "2")
    TinyModel(kind="gan").write(tmp_path / "models" / "gan" / "1")
    done = check(tmp_path / "models", tmp_path / "out", "--tests", "tests/server/engine/test_device_queue.py")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "dry.json").read_text())
    assert (results["device"], results["problems"]) == ("cpu", [])
    graphs = {(model, row["graph"]): row for model, rows in results["graphs"].items() for row in rows}
    assert set(graphs) == {("gan", "decoder"), ("vae", "decoder"), ("vae", "encoder")}
    served = results["served"]["images_per_second"]
    assert set(served) == {"gan", "vae"}
    for ways in (*(row["rows_per_second"] for row in graphs.values()), *served.values()):
        assert set(ways) == {"plain", "bound"}
        assert all(set(rates) == {"1", "3"} for rates in ways.values())
        assert all(rate > 0 for rates in ways.values() for rate in rates.values())
    for row in graphs.values():
        assert max(row["max_abs_error"].values()) < 1e-5
        assert max(row["from_cpu"].values()) < 1e-5
        assert row["cpu_nodes"] == {}
    for model in ("gan", "vae"):
        single = results["single_rows"]["models"][model]
        assert single["many"]["calls_per_second"] > 0
        assert 0 < single["one at a time"]["p50_us"] <= single["one at a time"]["p99_us"]
    assert results["single_rows"]["watched"]["server_mib"]["most"] > 10
    assert results["suite"]["passed"] > 0
    assert (results["suite"]["failed"], results["suite"]["left_out"]) == ({}, {})
    report = (tmp_path / "out" / "dry.md").read_text()
    assert done.stdout.endswith(report + "\n")
    assert f"{results['suite']['passed']} passed" in report


def test_a_graph_that_is_off_is_named_and_fails(tmp_path: Path) -> None:
    def spoil(golden: dict[str, NDArray[Any]]) -> None:
        golden["decoder.image"] += np.float32(1.5e-4)

    TinyModel(kind="gan").write(tmp_path / "models" / "gan" / "1", edit_golden=spoil)
    done = check(tmp_path / "models", tmp_path / "out", "--tests")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    for way, line in zip(("plain", "bound"), lines[:2], strict=True):
        assert line == f"gan: the decoder, {way}, is 1.5e-04 from PyTorch where 0.0001 is allowed"
    problems = json.loads((tmp_path / "out" / "dry.json").read_text())["problems"]
    assert problems == lines  # the server refuses the model, too, and that is among them
    assert any(problem.startswith("through the server, plain: ") for problem in problems[2:])


def test_tests_that_take_too_long_are_ended_and_that_is_said(gpu: SimpleNamespace) -> None:
    suite = gpu.suite.run_suite("cpu", ["tests/server/engine"], 0.01)
    assert not suite["ended"]
    assert gpu.suite.suite_problems(suite) == ["the server's tests: 0 had passed when the time was over"]


FILES = ["tests/server/engine/test_device_queue.py", "tests/server/latent/test_walks.py"]


@pytest.mark.slow
def test_without_xdist_the_files_are_shared_out_among_processes(gpu: SimpleNamespace) -> None:
    assert sorted(gpu.suite.file_shares(FILES, 2)) == sorted([file] for file in FILES)
    suite = gpu.suite.run_suite("cpu", FILES, 100, processes=2, xdist=False)
    assert (suite["processes"], suite["failed"], suite["passed"] > 10) == (2, {}, True)
    assert gpu.suite.suite_problems(suite) == []
    everything = gpu.suite.file_shares(["tests/server"], 16)
    assert len(everything) == 16
    assert len(set(itertools.chain(*everything))) == sum(map(len, everything)) > 80


REPORT = """<testsuite>
<testcase classname="tests.a" name="test_passes"/>
<testcase classname="tests.a" name="test_fails[1]"><failure message="1 == 2">E   assert 1 == 2</failure></testcase>
<testcase classname="tests.a" name="test_stops"><error message="failed on teardown">E   a trace</error></testcase>
<testcase classname="tests.a" name="test_b"><skipped message="on the CPU alone">a.py:3: skipped</skipped></testcase>
<testcase classname="tests.a" name="test_c"><skipped message="on the CPU alone">a.py:7: skipped</skipped></testcase>
<testcase classname="" name="tests.b"><error message="collection failure">E   No module named 'x'</error></testcase>
<testcase classname="" name="tests.c"><error message="collection failure">E   SyntaxError: a line</error></testcase>
</testsuite>"""


def test_what_pytest_reports_is_counted_with_names_and_reasons(gpu: SimpleNamespace) -> None:
    found = gpu.suite.Findings()
    for case in ElementTree.fromstring(REPORT):  # noqa: S314
        found.add(case)
    assert (found.passed, found.skipped, found.left_out) == (1, {"on the CPU alone": 2}, {"tests.b": "x"})
    assert found.failed == {
        "tests.a::test_fails[1]": "E   assert 1 == 2",
        "tests.a::test_stops": "E   a trace",
        "tests.c": "E   SyntaxError: a line",
    }


@pytest.mark.slow
def test_where_the_packages_are_not_installed_there_is_an_environment_with_them(gpu: SimpleNamespace) -> None:
    with gpu.environment.environment() as python:
        for command, package in (("latentserve-server", "latentserve-server"), ("latentserve", "latentserve-client")):
            printed = subprocess.check_output([python.with_name(command), "--version"], text=True)
            assert printed == f"{command} {version(package)}\n"
    assert not python.exists()


@pytest.mark.parametrize(("line", "found"), [("37, 1024\n", (37.0, 1024.0)), ("[N/A], 512\n5, 6\n", (None, 512.0))])
def test_what_the_driver_says_of_a_gpu_is_read(
    gpu: SimpleNamespace, line: str, found: tuple[float | None, float | None]
) -> None:
    assert gpu.watch.parse(line) == found


def test_the_course_of_memory_and_the_busy_share_are_summed_up(gpu: SimpleNamespace) -> None:
    watch = gpu.watch.Watch()
    watch.samples += [gpu.watch.Sample(0.0, 100.0, 0.0, 500.0), gpu.watch.Sample(0.25, 120.0, 60.0, 900.0)]
    watch.samples.append(gpu.watch.Sample(0.5, 110.0, None, None))
    summary = watch.summary()
    assert summary["gpu_busy_percent"] == 30.0
    assert summary["gpu_mib"] == {"first": 500.0, "last": 900.0, "most": 900.0}
    assert summary["server_mib"] == {"first": 100.0, "last": 110.0, "most": 120.0}
    assert len(summary["samples"]) == 3


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU here")
def test_without_a_gpu_nothing_is_checked_and_that_is_said_in_a_line() -> None:
    done = subprocess.run(["make", "-s", "gpu-check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "gpu-check: nvidia-smi finds no GPU here; nothing was checked and nothing written\n"


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU here")
def test_tests_on_cuda_do_not_begin_where_there_is_none(gpu: SimpleNamespace) -> None:
    command = [sys.executable, "-m", "pytest", "tests/server", "--device=cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (pytest.ExitCode.USAGE_ERROR, "")
    said = "ERROR: --device cuda: this build of onnxruntime has no CUDA provider; install latentserve-server[gpu]"
    assert done.stderr.strip() == said
    suite = gpu.suite.run_suite("cuda", FILES, 100, processes=1)
    assert gpu.suite.suite_problems(suite) == [f"the server's tests: {said}"]
