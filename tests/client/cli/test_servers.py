"""The server that a command line means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
from client.scripted_server import Script

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


def test_a_file_and_a_variable_name_the_token(target: str, script: Script, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert command("--server", target, "models", LATENTSERVE_CLIENT_TOKEN_FILE=one).returncode == 0
    assert command("--server", target, "--token-file", two, "models", LATENTSERVE_CLIENT_TOKEN_FILE=one).returncode == 0
    assert script.authorizations == ["Bearer one", "Bearer two"]


def test_a_token_that_is_missing_or_not_valid_is_one_line(target: str, script: Script, tmp_path: Path) -> None:
    nowhere = command("--server", target, "--token-file", str(tmp_path / "none"), "models")
    assert (nowhere.returncode, nowhere.stderr.count("\n"), "none: " in nowhere.stderr) == (1, 1, True)
    elsewhere = command("--server", "models.example:1", "--token-file", str(tmp_path / "none"), "models")
    assert (elsewhere.returncode, "plain text" in elsewhere.stderr) == (2, True)
    (tmp_path / "token").write_text("expired")
    script.faults += [grpc.StatusCode.UNAUTHENTICATED] * 2
    for flags, advice in ((("--token-file", str(tmp_path / "token")), "is not valid"), ((), "--token-file")):
        refused = command("--server", target, *flags, "models")
        assert (refused.returncode, refused.stderr.count("\n"), advice in refused.stderr) == (1, 1, True)
        assert "expired" not in refused.stderr
