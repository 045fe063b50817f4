"""The dashboard is what its program writes, in Grafana's types, and a real Prometheus has data for all that it asks."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from calibrated_model import write_calibrated
from model_shelf import Shelf
from observability.conftest import Watch, calls_go_on
from server_process import BACKSTOP_SECONDS
from tiny_bundle import TinyModel

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
PYTHON = ROOT / ".venv" / "grafana" / "bin" / "python"
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
READ_AND_WRITE = """
import json, pathlib, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
register_default_plugins()
read = Dashboard.from_json(json.loads(pathlib.Path(sys.argv[1]).read_text()))
sys.stdout.write(JSONEncoder().encode(read))
"""


def in_its_environment(*arguments: str) -> str:
    """What Python prints in the environment that has Grafana's types; skips the test where there is none."""
    if not PYTHON.exists():
        pytest.skip("`make .venv/grafana/installed` makes the environment with Grafana's types")
    command = [str(PYTHON), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=BACKSTOP_SECONDS).stdout


def without_variables(expression: str) -> str:
    """An expression for the tests' job, with all models."""
    for variable, value in (("$job", "latentserve"), ("$model", ".*"), ("$__rate_interval", "1m")):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def test_it_is_what_its_program_writes(tmp_path: Path) -> None:
    program = tmp_path / "dashboard.py"
    program.write_text((GRAFANA / "dashboard.py").read_text())
    in_its_environment(str(program))
    assert json.loads((tmp_path / "dashboard.json").read_text()) == DASHBOARD, "run `make dashboard`"


def test_it_has_nothing_that_is_not_of_grafanas_types() -> None:
    assert json.loads(in_its_environment("-c", READ_AND_WRITE, str(GRAFANA / "dashboard.json"))) == DASHBOARD


def test_a_panel_has_a_title_of_its_own_and_says_what_it_shows() -> None:
    assert max(Counter(panel["title"] for panel in PANELS).values()) == 1
    assert all(panel["description"] and panel["targets"] for panel in PANELS)


def has_a_number(found: list[dict[str, Any]]) -> bool:
    return any(one["value"][1] != "NaN" for one in found)


@pytest.mark.slow
async def test_every_query_has_data(watch: Watch, shelf: Shelf) -> None:
    shelf.publish_written(1, partial(write_calibrated, model=TinyModel()))
    async with watch(shelf.root, "--workers=2") as watched, calls_go_on(watched, "vae"):
        for panel in PANELS:
            for target in panel["targets"]:
                await watched.prometheus.until(without_variables(target["expr"]), has_a_number)
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                series = without_variables(variable["query"].removeprefix("label_values(").rpartition(",")[0])
                assert watched.prometheus.query(series) != []
