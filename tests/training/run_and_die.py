"""`run_and_die.py STEP [train's options]`: train, and be killed by SIGKILL when so many steps have been done."""

from __future__ import annotations

import os
import signal
import sys

from struck_run import train_until


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train_until(sys.argv[2:], int(sys.argv[1]), die)
