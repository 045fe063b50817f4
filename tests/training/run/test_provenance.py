"""Which commit a checkpoint says it is from."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from latentserve_training.run import provenance


def git(folder: Path, *arguments: str) -> str:
    known = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *known, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_told_in(folder: Path) -> str:
    """What a copy of the module in `folder` says."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = shutil.copy(provenance.__file__, folder)
    told: str = runpy.run_path(str(copy))["git_commit"]()
    return told


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("venv/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "begin")
    return tmp_path


def test_a_package_installed_within_another_repository_has_no_commit(repository: Path) -> None:
    assert commit_told_in(repository / "venv" / "package") == ""


def test_a_checkout_has_its_commit_and_says_what_was_changed_since(repository: Path) -> None:
    commit_told_in(repository / "package")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "add")
    head = git(repository, "rev-parse", "HEAD")
    assert commit_told_in(repository / "package") == head
    (repository / ".gitignore").write_text("")
    assert commit_told_in(repository / "package") == f"{head}-dirty"


def test_outside_of_any_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert commit_told_in(tmp_path / "package") == ""
