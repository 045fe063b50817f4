"""A disk that fills up: one line, and the last good state is still there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from training.full_disk import train_within
from training.resumed_runs import assert_same
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.folder import RunFolder

FULL = Path("/dev/full")  # every write to it ends as on a full disk


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "1")) == 0
    last = RunFolder(run).last
    before = last.read_bytes()
    ended = train_within(len(before) - 1, arguments("mlp_vae", run))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"latentserve-train: error: {last}: cannot be saved: File too large; the checkpoint of before stays\n"
    )
    assert last.read_bytes() == before
    assert Checkpoint.load(last).progress.epoch == 1
    assert [path.name for path in last.parent.glob(".*")] == []
    assert commands.train(arguments("mlp_vae", run)) == 0
    assert_same(run, trained("mlp_vae"))


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_record_that_does_not_fit_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "1")) == 0
    metrics = RunFolder(run).metrics
    metrics.unlink()
    metrics.symlink_to(FULL)
    capsys.readouterr()
    assert commands.train(arguments("mlp_vae", run)) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "No space left on device" in line
    assert Checkpoint.load(RunFolder(run).last).progress.epoch == 1
