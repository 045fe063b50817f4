"""A generator that draws one image, however few steps it had: evaluation and export say so, and the export refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from training.small_runs import arguments

from latentserve_training import commands

Capture = pytest.CaptureFixture[str]
NARROW = {
    "mlp_gan": ("--model.batch_norm", "false", "--model.generator_width", "1"),
    "cgan": ("--model.width", "1", "--model.dense", "1", "--model.label_dim", "1"),
}
SIGN = "the samples' variance is "


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of five steps, a thousand short of those after which training looks for a collapse."""
    runs: dict[str, Path] = {}

    def run(family: str) -> Path:
        if family not in runs:
            runs[family] = tmp_path_factory.mktemp("runs") / family
            argv = [*arguments(family, runs[family], *NARROW[family]), "--trainer.epochs", "1"]
            assert commands.train([*argv, "--model.min_diversity", "0.2"]) == 0
        return runs[family]

    return run


@pytest.mark.parametrize("family", NARROW)
def test_a_collapsed_generator_is_not_exported(
    collapsed: Callable[[str], Path], tmp_path: Path, capsys: Capture, family: str
) -> None:
    assert commands.export([str(collapsed(family)), "--repository", str(tmp_path)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.sub(f"(?<={SIGN})\\S+", "#", line) == (
        f"latentserve-export: error: {collapsed(family)} has collapsed: {SIGN}# of the data's (limit 0.2); --force "
        "publishes it all the same"
    )
    assert not list(tmp_path.iterdir())


def test_a_collapsed_generator_that_is_forced_says_so_in_its_card(
    collapsed: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    assert commands.export([str(collapsed("mlp_gan")), "--repository", str(tmp_path), "--force"]) == 0
    assert f"latentserve-export: warning: {collapsed('mlp_gan')} has collapsed: " in capsys.readouterr().err
    card = (tmp_path / "mlp_gan" / "1" / "CARD.md").read_text()
    assert f"**Collapsed:** {SIGN}" in card


def test_an_evaluation_says_that_the_samples_have_collapsed(
    collapsed: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    run = collapsed("mlp_gan")
    capsys.readouterr()
    assert commands.evaluate([str(run), "--quick"]) == 0
    said = capsys.readouterr()
    assert f"latentserve-evaluate: warning: {run} has collapsed: " in said.err
    assert f"**Collapsed:** {SIGN}" in said.out
    assert f"**Collapsed:** {SIGN}" in (run / "report.md").read_text()
    assert json.loads((run / "report.json").read_text())["collapse"].startswith(SIGN)


def test_a_limit_of_nothing_lets_every_generator_pass(tmp_path: Path, capsys: Capture) -> None:
    argv = arguments("mlp_gan", tmp_path / "run", *NARROW["mlp_gan"])
    assert commands.train([*argv, "--trainer.epochs", "1", "--model.min_diversity", "0"]) == 0
    capsys.readouterr()
    assert commands.export([str(tmp_path / "run"), "--repository", str(tmp_path / "models")]) == 0
    assert capsys.readouterr().err == ""
    assert "Collapsed" not in (tmp_path / "models" / "mlp_gan" / "1" / "CARD.md").read_text()
