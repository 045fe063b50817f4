"""The server that a command line means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("latentserve")


def command(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, env=environment | variables, timeout=60)


def test_a_variable_names_the_server(target: str) -> None:
    assert command("models", LATENTSERVE_SERVER=target).stdout.startswith("NAME")
    assert command("--server", target, "models", LATENTSERVE_SERVER="localhost:1").returncode == 0
    wrong = command("models", LATENTSERVE_SERVER="localhost")
    assert (wrong.returncode, "server 'localhost': " in wrong.stderr) == (2, True)


def test_the_admin_listener_has_a_variable_of_its_own(target: str, unused_tcp_port: int) -> None:
    nobody = f"127.0.0.1:{unused_tcp_port}"
    names = {"LATENTSERVE_SERVER": target, "LATENTSERVE_ADMIN_SERVER": nobody}
    answer = command("admin", "rescan", **names)
    assert (answer.returncode, nobody in answer.stderr) == (1, True)
