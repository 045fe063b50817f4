"""Wrong usage of any command ends with 2 and says what is wrong, before anything is read, written or called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from latentserve_client.cli.main import main as client
from latentserve_server import cli as server
from latentserve_training import commands

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "latentserve": client,
    "latentserve-server": server.main,
    "latentserve-train": commands.train,
    "latentserve-evaluate": commands.evaluate,
    "latentserve-export": commands.export,
    "latentserve-import": commands.import_model,
}
WRONG = [
    ("latentserve", []),
    ("latentserve", ["--bogus", "models"]),
    ("latentserve", ["paint"]),
    ("latentserve", ["--timeout", "soon", "models"]),
    ("latentserve", ["sample", "m", "--count", "0", "-o", "a.png"]),
    ("latentserve", ["traverse", "m", "-o", "a.png"]),
    ("latentserve", ["admin", "load", "m"]),
    ("latentserve-server", []),
    ("latentserve-server", ["--bogus=1"]),
    ("latentserve-server", ["--repository=m", "--cpu-threads=many"]),
    ("latentserve-server", ["--repository=m", "--cpu-threads=-1"]),
    ("latentserve-server", ["--repository=ftp://host"]),
    ("latentserve-server", ["--repository=m", "--config=absent.yaml"]),
    ("latentserve-train", []),
    ("latentserve-train", ["--bogus", "1"]),
    ("latentserve-train", ["--output", "run", "--trainer.epochs", "many"]),
    ("latentserve-train", ["--output", "run", "--trainer.epochs", "0"]),
    ("latentserve-train", ["--output", "run", "--model.family", "diffusion"]),
    ("latentserve-train", ["--output", "run", "--config", "absent.yaml"]),
    ("latentserve-evaluate", []),
    ("latentserve-evaluate", ["run", "--bogus"]),
    ("latentserve-evaluate", ["run", "--samples", "many"]),
    ("latentserve-evaluate", ["run", "--samples", "1"]),
    ("latentserve-export", ["run"]),
    ("latentserve-export", ["run", "--repository", "m", "--bogus"]),
    ("latentserve-export", ["run", "--repository", "m", "--version", "0"]),
    ("latentserve-export", ["run", "--repository", "s3://bucket"]),
    ("latentserve-import", ["model.yaml"]),
    ("latentserve-import", ["model.yaml", "--repository", "m", "--name", "m"]),
    ("latentserve-import", ["model.yaml", "--repository", "m", "--name", "../m"]),
    ("latentserve-import", ["model.yaml", "--repository", "m", "--name", "m", "--version", "one"]),
    ("latentserve-import", ["model.onnx", "--repository", "m", "--name", "m", "--set", "kind"]),
    ("latentserve-import", ["model.onnx", "--describe-only", "--set", "kind=flow"]),
]


@pytest.mark.parametrize(("command", "arguments"), WRONG, ids=lambda part: part if isinstance(part, str) else None)
def test_wrong_usage_ends_with_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = COMMANDS[command](arguments)
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(command)
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
