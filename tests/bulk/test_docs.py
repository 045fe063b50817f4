"""What docs/bulk.md shows, run block after block as a reader would, on the demo's models."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- skip: next [^\n]*-->\n)?```(\w+)\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
CHANGING = re.compile(r"\d+\.\d s|/home/me/|\S+/place/")


@pytest.mark.skipif(not (ROOT / "demo" / "done").exists(), reason="there is no demo; `make demo` makes it")
def test_the_page_shows_what_happens(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "demo").symlink_to(ROOT / "demo")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    blocks = [block for block in BLOCK.findall((ROOT / "docs" / "bulk.md").read_text()) if block[1] != "text"]
    assert {kind for _, kind, _, _ in blocks} == {"sh", "python", "console"}
    for skipped, kind, text, shown in blocks:
        if skipped:
            continue
        lines = text.splitlines()
        words = [sys.executable, "-c", text]
        if kind != "python":
            words = shlex.split(lines[0].removeprefix("$ "))
        done = subprocess.run(
            words, cwd=place, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300, check=False
        )
        assert (done.returncode == 0) == (kind != "console"), done.stderr
        if kind == "console":
            assert CHANGING.sub("", done.stderr).endswith(CHANGING.sub("", "\n".join(lines[1:]) + "\n"))
        elif shown:
            assert CHANGING.sub("", done.stdout).strip() == CHANGING.sub("", shown).strip()
