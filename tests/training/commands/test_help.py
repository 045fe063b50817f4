"""The help of every command, as people read it."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

COMMANDS = ["latentserve-train", "latentserve-evaluate", "latentserve-export", "latentserve-import"]
OF_PYTHON = re.compile(r"type:|<class|Path \||Literal|Union|None|\bnull\b|False|True|\[\]|default: \)|Path to a config")
"""What jsonargparse says of types, of defaults that stand for nothing, and of its own."""
ENTRY = re.compile(r"^  (?P<name>-?[\w.-]+)[^\n]*?(?:\n +|  +)(?P<text>[\s\S]*?)(?=\n  \S|\n\n|\Z)", re.MULTILINE)


@cache
def help_of(command: str) -> str:
    """What the installed command says."""
    words = [Path(sys.executable).with_name(command), "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described_in_whole_sentences(command: str) -> None:
    text = help_of(command)
    assert OF_PYTHON.findall(text) == []
    entries = {found["name"]: " ".join(found["text"].split()) for found in ENTRY.finditer(text.split("\n\n", 1)[1])}
    in_usage = set(re.findall(r"(?<![\w.-])--[\w.-]+", text.split("\n\n", 1)[0]))
    assert in_usage <= entries.keys()
    assert [name for name, words in entries.items() if not re.fullmatch(r"\w.*\w.*[.]", words)] == []


def test_a_default_is_told_once_and_only_where_there_is_one() -> None:
    text = " ".join(help_of("latentserve-train").split())
    assert "Seed of weights, data order and noise (default: 1)." in text
    assert "Seed of the shuffle before the cut (default: 0)." in text
    assert "prefer (default: true)." in text
    assert "when absent) and folder (the files' own size). --data" in text
    text = " ".join(help_of("latentserve-export").split())
    assert "Folder of models; the bundle goes into NAME/VERSION (required)." in text
    assert "at least 1 (default: one above the highest)." in text
