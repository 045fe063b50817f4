"""`killed_run.py STEP [train's options]`: a training run that SIGKILL ends at STEP."""

from __future__ import annotations

import os
import signal
import sys

from interrupted_run import train_until


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train_until(sys.argv[2:], int(sys.argv[1]), die)
