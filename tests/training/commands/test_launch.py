"""The tuned process: one restart, the same command, and the user's own settings kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from latentserve_training.launch import VARIABLES

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc")

REPORT = """
import os, sys
print("start", *sys.argv[1:], flush=True)
from latentserve_training.launch import restart_tuned
restart_tuned()
print(*(os.environ.get(name) for name in sys.argv[1:]), flush=True)
"""


def run(**environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", REPORT, *VARIABLES]
    return subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_restarts_once_with_the_same_arguments_and_the_variables_set() -> None:
    start = " ".join(("start", *VARIABLES))
    assert run() == [start, start, " ".join(VARIABLES.values())]


def test_keeps_what_the_user_has_set() -> None:
    assert run(MALLOC_TOP_PAD_="4096")[-1].split()[list(VARIABLES).index("MALLOC_TOP_PAD_")] == "4096"
    assert len(run(**dict.fromkeys(VARIABLES, "131072"))) == 2
