"""What README.md and docs/ show, run as a reader would: block after block, against a server of the demo's models.

`make docs-test` runs this. A block in Python or `sh` is run as it is, and of a `console` session the commands, each of
which is to end as the session shows. Two things differ: addresses are those of this test's server, and what cannot be
run here has a comment before it, which Markdown does not show: `<!-- skip: next "the reason" -->`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from unittest import SkipTest

import pytest
from server_process import server_process
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo"
PAGES = ("README.md", "docs/bring-your-own.md", "docs/bundle-format.md", "docs/client.md", "docs/protocol.md")
RUN = ("python", "sh", "console")
SHOWN = ("text", "json", "yaml", "c")
SECONDS = 300
"""What one block may take; nothing takes this long unless it hangs."""

SERVED = {
    "conv_vae": ("conv_vae",),
    "mlp_vae": ("mlp_vae",),
    "mlp_gan": ("mlp_gan",),
    "digits-vae": ("mlp_vae", "mlp_vae"),
    "digits-conv-vae": ("conv_vae",),
    "digits-gan": ("mlp_gan",),
}
"""The demo's model behind each version of each name that the docs use."""


@pytest.fixture
def place(tmp_path: Path, repository: Path) -> Path:
    """A folder that looks like the checkout after `make demo`, with the files of a reader and the server's models."""
    (tmp_path / "models").symlink_to(repository)
    for entry in ROOT.iterdir():
        if entry.name not in (".git", "models", "runs", "data"):
            (tmp_path / entry.name).symlink_to(entry)
    digits = sorted((DEMO / "inputs").glob("*.png"))
    (tmp_path / "digits").mkdir()
    for number, digit in enumerate(digits[:10]):
        shutil.copy(digit, tmp_path / "digits" / f"{number}.png")
    for name, digit in zip(("photo1.png", "photo2.png", "a.png"), digits, strict=False):
        shutil.copy(digit, tmp_path / name)
    return tmp_path


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name, models in SERVED.items():
        for version, model in enumerate(models, 1):
            shutil.copytree(DEMO / "models" / model / "1", root / name / str(version))
    (root / "digits-vae" / "aliases.json").write_text(json.dumps({"stable": 1, "canary": 2}))
    return root


def with_addresses(text: str, ports: Mapping[str, int]) -> str:
    for shown, port in ports.items():
        text = text.replace(shown, f"127.0.0.1:{port}")
    return text


def run_python(example: Example, ports: Mapping[str, int]) -> None:
    example.parsed = type(example.parsed)(
        with_addresses(example.parsed, ports), example.parsed.offset, example.parsed.line_offset
    )
    PythonEvaluator()(example)


def run_shell(source: str, ports: Mapping[str, int]) -> subprocess.CompletedProcess[str]:
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LATENTSERVE_SERVER": f"127.0.0.1:{ports['127.0.0.1:50051']}",
        "LATENTSERVE_ADMIN_SERVER": f"127.0.0.1:{ports['127.0.0.1:50052']}",
    }
    argv = ["bash", "-euo", "pipefail", "-c", with_addresses(source, ports)]
    return subprocess.run(argv, capture_output=True, text=True, env=os.environ | variables, timeout=SECONDS)


def run_commands(example: Example, ports: Mapping[str, int]) -> str | None:
    """The whole block, which is to end well."""
    run = run_shell(example.parsed, ports)
    return f"exit code {run.returncode}\n{run.stdout}{run.stderr}" if run.returncode else None


def run_session(example: Example, ports: Mapping[str, int]) -> str | None:
    """The commands behind "$", of which those end badly, and in the line, that are shown to print an error."""
    for command, shown in re.findall(r"^\$ ((?:.*\\\n)*.*)\n?((?:(?!\$ ).*\n?)*)", example.parsed, re.MULTILINE):
        run = run_shell(command, ports)
        refused = re.search(r"^latentserve: (\S+ \S+)", shown, re.MULTILINE)
        if bool(run.returncode) != bool(refused) or (refused and refused[0] not in run.stderr):
            return f"{command}\nexit code {run.returncode}\n{run.stdout}{run.stderr}"
    return None


def failure_in(page: Path, ports: Mapping[str, int]) -> str | None:
    """Run every example, in order; what the first that fails says, with its line, or None."""
    evaluators = {"python": run_python, "sh": run_commands, "console": run_session}
    parsers = [CodeBlockParser(language, partial(run, ports=ports)) for language, run in evaluators.items()]
    document = Document.parse(str(page), SkipParser(), *parsers)
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue
        except Exception as error:
            return f"{page.name}, line {example.line}: {type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter, of torch's own code
async def test_what_is_shown_runs(page: str, place: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    async with server_process(repository, "--admin-listen=127.0.0.1:0") as server:
        started = await server.log("serving")
        ports = {"127.0.0.1:50051": started["port"], "127.0.0.1:50052": started["admin_port"]}
        assert await asyncio.to_thread(failure_in, ROOT / page, ports) is None


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_out_by_chance(page: str) -> None:
    fences = re.findall(r"^```(.*)$", (ROOT / page).read_text(), re.MULTILINE)
    unknown = [language for language in fences[::2] if language not in (*RUN, *SHOWN)]
    assert unknown == [], f"a block is {', '.join(RUN)}, which are run, or {', '.join(SHOWN)}, which are not"
