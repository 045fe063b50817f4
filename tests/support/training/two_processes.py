"""Commands of the package in processes of their own, and training on two of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TWO = ("--trainer.device", "cpu", "--trainer.devices", "2")


def command(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


def train_on_two(*argv: str) -> subprocess.CompletedProcess[str]:
    return command(str(SCRIPTS / "latentserve-train"), *argv, *TWO)
