"""Checkpoints that cannot be read, or not by this version: one line says so, whatever the command."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training.resumed_runs import assert_same, interrupt, refused
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.run.checkpoint import FORMAT, Checkpoint
from latentserve_training.run.folder import RunFolder

Capture = pytest.CaptureFixture[str]


def rewritten(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The last checkpoint of `run`, after `change` has been made to its values."""
    last = RunFolder(run).last
    values = torch.load(last, weights_only=True)
    change(values)
    torch.save(values, last)
    return last


def test_an_option_that_a_checkpoint_does_not_know_has_its_default(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    interrupt(arguments("mlp_vae", run), 7)
    rewritten(run, lambda values: values["origin"]["config"]["model"].pop("likelihood"))
    assert commands.train(arguments("mlp_vae", run)) == 0
    assert_same(run, trained("mlp_vae"))


def refused_by_all(capsys: Capture, family: str, run: Path) -> list[str]:
    """The lines in which resume, evaluation and export of the run are refused."""
    lines = [refused(capsys, arguments(family, run))]
    for main, argv in ((commands.evaluate, []), (commands.export, ["--repository", str(run / "models")])):
        assert main([str(run), *argv]) == 1
        lines.append(capsys.readouterr().err)
        assert lines[-1].count("\n") == 1
    return lines


def test_a_checkpoint_of_another_format_is_refused(trained: Any, tmp_path: Path, capsys: Capture) -> None:
    run = Path(shutil.copytree(trained("mlp_gan"), tmp_path / "run"))
    last = rewritten(run, lambda values: values.update(format=1))
    for line in refused_by_all(capsys, "mlp_gan", run):
        assert f"{last}: a checkpoint of format 1, but this version reads {FORMAT}; train again, or use the" in line


def _without_a_layer(values: dict[str, Any]) -> None:
    for part in ("model", "average"):
        del values[part][next(name for name in values[part] if name.endswith("weight"))]


def _wider(values: dict[str, Any]) -> None:
    for part in ("model", "average"):
        name = next(name for name in values[part] if name.endswith("weight"))
        values[part][name] = torch.cat((values[part][name],) * 2)


@pytest.mark.parametrize("change", [_without_a_layer, _wider])
def test_weights_of_another_network_are_refused(
    trained: Any, tmp_path: Path, capsys: Capture, change: Callable[[dict[str, Any]], None]
) -> None:
    """As after a change of a family's networks, of which the configuration knows nothing."""
    run = Path(shutil.copytree(trained("mlp_gan"), tmp_path / "run"))
    rewritten(run, change)
    for line in refused_by_all(capsys, "mlp_gan", run):
        assert "the checkpoint's weights are of another network than today's mlp_gan; train again, or use the" in line


def test_optimizers_of_another_network_are_refused(trained: Any, tmp_path: Path, capsys: Capture) -> None:
    run = Path(shutil.copytree(trained("mlp_gan"), tmp_path / "run"))
    rewritten(run, lambda values: values["optimizers"].pop())
    assert "the checkpoint's weights are of another network" in refused(capsys, arguments("mlp_gan", run))


def test_what_a_kill_between_two_names_left_is_not_written_to(tmp_path: Path) -> None:
    """An epoch's end names one file best.pt and last.pt; the second name was still another when the kill came."""
    run = RunFolder(tmp_path / "run")
    assert commands.train(arguments("mlp_vae", run.path, "--trainer.epochs", "1")) == 0
    best = run.best.read_bytes()
    run.last.with_name(".last.pt.tmp").hardlink_to(run.best)
    interrupt(arguments("mlp_vae", run.path, "--trainer.epochs", "2"), 7)
    assert Checkpoint.load(run.last).progress.step == 7
    assert run.best.read_bytes() == best


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "stop"])
def test_a_damaged_checkpoint_is_named(trained: Any, tmp_path: Path, capsys: Capture, damage: str) -> None:
    whole = RunFolder(trained("mlp_vae")).last.read_bytes()
    last = RunFolder(tmp_path).last
    last.parent.mkdir()
    last.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"weights", "stop": b"."}[damage])
    assert f"{last}: damaged, or not a checkpoint" in refused(capsys, arguments("mlp_vae", tmp_path))


def test_weights_that_have_changed_on_the_way_are_refused(trained: Any, tmp_path: Path, capsys: Capture) -> None:
    run = Path(shutil.copytree(trained("mlp_gan"), tmp_path / "run"))
    last = RunFolder(run).last
    with zipfile.ZipFile(last) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        whole = archive.read(largest)
    content = last.read_bytes()
    at = content.index(whole) + len(whole) // 2
    last.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    for line in refused_by_all(capsys, "mlp_gan", run):
        assert f"{last}: damaged: {largest.filename} is not what was saved" in line


def test_loading_a_checkpoint_runs_no_code(tmp_path: Path, capsys: Capture) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    last = RunFolder(tmp_path / "run").last
    last.parent.mkdir(parents=True)
    torch.save({"format": FORMAT, "payload": Payload()}, last)
    assert "damaged" in refused(capsys, arguments("mlp_vae", tmp_path / "run"))
    assert not (tmp_path / "ran").exists()
