"""The GPU's benchmark measures what it says; shown on the CPU, where every graph can be checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bundle import TinyModel

ROOT = Path(__file__).parent.parent


def measure(repository: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu.py", "--device=cpu", "--batches", "1", "3", "--seconds=0.02"]
    command += ["--repository", str(repository), "--output", str(output)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_every_graph_is_compared_and_measured_in_every_way(tmp_path: Path) -> None:
    TinyModel(conv=True).write(tmp_path / "models" / "vae" / "2")
    TinyModel(kind="gan").write(tmp_path / "models" / "gan" / "1")
    done = measure(tmp_path / "models", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert results["device"] == "cpu"
    graphs = {(model["name"], row["graph"]): row for model in results["models"] for row in model["graphs"]}
    assert set(graphs) == {("gan", "decoder"), ("vae", "decoder"), ("vae", "encoder")}
    for row in (*graphs.values(), *({"rows_per_second": model["server"]} for model in results["models"])):
        assert set(row["rows_per_second"]) == {"plain", "bound"}
        assert all(set(rates) == {"1", "3"} for rates in row["rows_per_second"].values())
        assert all(rate > 0 for rates in row["rows_per_second"].values() for rate in rates.values())
    for row in graphs.values():
        assert max(row["max_abs_error"].values()) < 1e-5
        assert row["cpu_nodes"] == {}
    assert (tmp_path / "out" / "gpu.md").read_text() == done.stdout.removesuffix("\n")


def test_a_graph_that_is_off_is_named_and_fails(tmp_path: Path) -> None:
    def spoil(golden: dict[str, NDArray[Any]]) -> None:
        golden["decoder.image"] += np.float32(1.5e-4)

    TinyModel(kind="gan").write(tmp_path / "models" / "gan" / "1", edit_golden=spoil)
    done = measure(tmp_path / "models", tmp_path / "out")
    assert done.returncode == 1
    for way, line in zip(("plain", "bound"), done.stderr.splitlines(), strict=True):
        assert line == f"gan: the decoder, {way}, is 1.5e-04 from PyTorch where 0.0001 is allowed"
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU here")
def test_without_a_gpu_nothing_is_checked_and_that_is_said_in_a_line() -> None:
    done = subprocess.run(["make", "-s", "gpu-check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "gpu-check: nvidia-smi finds no GPU here; nothing was checked and nothing written\n"
