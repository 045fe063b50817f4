"""The Dockerfile is as hadolint wants it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from deploy.rendering import BACKSTOP_SECONDS, ENVIRONMENT

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ENVIRONMENT / "bin" / "hadolint"), "--no-color", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=BACKSTOP_SECONDS, check=False)


def test_hadolint_has_nothing_to_say() -> None:
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("WORKDIR /src", "RUN cd /src", "DL3003"),
        ("USER 65532:65532", "USER root", "DL3002"),
        ("ENTRYPOINT [", "ENTRYPOINT latentserve-server [", "DL3025"),
    ],
)
def test_hadolint_finds_what_is_wrong_in_a_copy(right: str, wrong: str, rule: str, tmp_path: Path) -> None:
    text = DOCKERFILE.read_text()
    assert right in text
    copy = tmp_path / "Dockerfile"
    copy.write_text(text.replace(right, wrong))
    done = hadolint(copy)
    assert done.returncode != 0
    assert rule in done.stdout
