"""A run's first files, when the disk is full or the run is killed while they are written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training.full_disk import train_within
from training.resumed_runs import assert_same
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.run.folder import RunFolder

QUICK = ["--samples", "100", "--nll-draws", "0", "--classifier-steps", "1"]


@pytest.fixture
def run(trained: Callable[[str], Path], tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained("mlp_vae"), tmp_path / "run")))


def epochs(run: RunFolder) -> list[int]:
    return [json.loads(line)["epoch"] for line in run.metrics.read_text().splitlines()]


def test_going_on_where_nothing_fits_leaves_the_record_as_it_was(run: RunFolder) -> None:
    before = {path: path.read_bytes() for path in (run.metrics, run.config, run.last)}
    ended = train_within(100, arguments("mlp_vae", run.path, "--trainer.epochs", "4"))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in before} == before
    assert list(run.path.glob(".*")) == []


def test_lines_of_a_lost_future_are_dropped_only_if_the_rest_fits(run: RunFolder) -> None:
    records = run.metrics.read_text().splitlines(keepends=True)
    later = records[-1].replace('"step": 15', '"step": 20')
    run.metrics.write_text("".join((*records, later)))
    assert train_within(100, arguments("mlp_vae", run.path)).returncode == 1
    assert run.metrics.read_text() == "".join((*records, later))
    assert commands.train(arguments("mlp_vae", run.path)) == 0
    assert run.metrics.read_text() == "".join(records)


@pytest.mark.parametrize(
    "torn", [b'{"epoch": 4, "st', b"\x00" * 40, b'{"epoch": 4, "step": 20, "train": {}}', b"4\n", b"\xff\n"]
)
def test_a_record_cut_short_is_passed_over(run: RunFolder, torn: bytes) -> None:
    run.metrics.write_bytes(run.metrics.read_bytes() + torn)
    assert commands.evaluate([str(run.path), *QUICK]) == 0
    assert (run.path / "curves.png").is_file()
    assert commands.train(arguments("mlp_vae", run.path, "--trainer.epochs", "4")) == 0
    assert epochs(run) == [1, 2, 3, 4]


def test_a_line_whose_end_is_missing_stays_a_line(run: RunFolder) -> None:
    run.metrics.write_text(run.metrics.read_text().removesuffix("\n"))
    assert commands.train(arguments("mlp_vae", run.path, "--trainer.epochs", "4")) == 0
    assert epochs(run) == [1, 2, 3, 4]


def test_an_epoch_tells_what_each_latent_is_used_for(run: RunFolder) -> None:
    for record in map(json.loads, run.metrics.read_text().splitlines()):
        kl, results = record["series"]["kl_nats_by_latent"], record["validation"]
        assert len(kl) == 2
        assert sum(kl) == pytest.approx(results["kl_nats"])
        assert max(kl) == pytest.approx(results["latent_kl_max_nats"])


def test_records_of_the_time_before_latents_were_told_apart_are_gone_on_with(run: RunFolder) -> None:
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    run.metrics.write_text("".join(json.dumps({**record, "series": {}}) + "\n" for record in records[:-1]))
    assert commands.evaluate([str(run.path), *QUICK]) == 0
    pictures = json.loads(run.report.read_text())["files"]
    assert "curves.png" in pictures
    assert "kl_by_latent.png" not in pictures
    assert commands.train(arguments("mlp_vae", run.path, "--trainer.epochs", "4")) == 0
    assert commands.evaluate([str(run.path), *QUICK]) == 0
    assert (run.path / "kl_by_latent.png").is_file()


@pytest.mark.parametrize("content", ["", None])
def test_without_records_there_are_no_curves(run: RunFolder, content: str | None) -> None:
    run.metrics.unlink()
    if content is not None:
        run.metrics.write_text(content)
    assert commands.evaluate([str(run.path), *QUICK]) == 0
    assert "curves.png" not in json.loads(run.report.read_text())["files"]
    assert (run.path / "neighbours.png").is_file()


def test_a_run_whose_first_checkpoint_does_not_fit_can_begin_again(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    argv = arguments("mlp_vae", tmp_path / "run")
    ended = train_within(100, argv)
    assert ended.returncode == 1
    last = RunFolder(tmp_path / "run").last
    assert ended.stderr == f"latentserve-train: error: {last}: cannot be saved: File too large\n"
    assert commands.train(argv) == 0
    assert_same(tmp_path / "run", trained("mlp_vae"))


def test_a_run_that_is_killed_before_its_first_checkpoint_can_begin_again(tmp_path: Path) -> None:
    """With the signal's default action, the first byte beyond the limit kills the process as SIGKILL would."""
    argv = arguments("mlp_vae", tmp_path / "run", "--trainer.epochs", "1")
    script = (
        "import resource, signal, sys; from latentserve_training import commands; "
        "from latentserve_training.run import train; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); commands.train(sys.argv[1:])"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGXFSZ
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert left == {"checkpoints", ".last.pt.tmp"}
    assert commands.train(argv) == 0
    assert not RunFolder(tmp_path / "run").last.with_name(".last.pt.tmp").exists()
