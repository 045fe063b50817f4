"""The table of the published results, over real runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training.small_runs import JUDGED, arguments

from latentserve_training import commands
from latentserve_training.evaluation.evaluate import evaluate

ROOT = Path(__file__).parents[3]
EPOCHS = 50  # of mlp_vae's standard tier


def table(output: Path, *seeds: str) -> str:
    command = [sys.executable, "benchmarks/tiers.py", "--output", str(output), "--table", "--only", "mlp_vae"]
    done = subprocess.run([*command, "--seeds", *seeds], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where the run of seed 1 has its epochs and its report."""
    run = tmp_path / "standard" / "mlp_vae-1"
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", str(EPOCHS))) == 0
    evaluate(run, config=JUDGED)
    return tmp_path


def test_a_goal_is_met_by_the_seeds_there_are(runs: Path) -> None:
    assert table(runs, "1").endswith("| 1 | <= 140.5 | met |")
    with (runs / "standard" / "mlp_vae-1" / "metrics.jsonl").open("a") as records:
        records.write('{"epoch": 51, "st')  # as a crash leaves it
    assert table(runs, "1").endswith("| 1 | <= 140.5 | met |")
    (runs / "standard" / "mlp_vae-3.log").write_text("latentserve-train: error: collapsed\n")
    row = table(runs, "1", "2", "3")
    assert row.endswith("| 1, 2 (not run), 3 (latentserve-train: error: collapsed) | <= 140.5 | met by 1 of 3 |")


def test_a_report_of_other_epochs_or_weights_does_not_count(runs: Path, trained: Callable[[str], Path]) -> None:
    shutil.copytree(trained("mlp_vae"), runs / "standard" / "mlp_vae-2")
    evaluate(runs / "standard" / "mlp_vae-2", config=JUDGED)
    assert "| 1, 2 (not finished, 3 of 50 epochs) |" in table(runs, "1", "2")
    shutil.copytree(runs / "standard" / "mlp_vae-1", runs / "standard" / "mlp_vae-3")
    shutil.copy(runs / "standard" / "mlp_vae-2" / "report.json", runs / "standard" / "mlp_vae-3")
    assert table(runs, "3").endswith(f"| – | 3 (not finished, {EPOCHS} of {EPOCHS} epochs) | <= 140.5 | – |")
