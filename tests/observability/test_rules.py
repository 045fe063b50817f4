"""The rules for Prometheus: they mean what operations.md says, and each alert fires, and is silent, when it should."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus import promtool

from latentserve.oip import inference_pb2
from latentserve.v1 import generation_pb2, models_pb2

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
CASES = ROOT / "deploy" / "prometheus" / "rules_test.yaml"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RECORDED = {rule["record"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "record" in rule}
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
FIRES = re.compile(r'ALERTS\{alertname="(\w+)", alertstate="firing"(.*)\}')

FAILURES = {"UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
"""What a call ends with that the server did not answer."""

WITH_WORKERS = {"latentserve_worker_restarts_total"}
"""What only a server with workers tells, and operations.md beside them."""


def cases() -> list[dict[str, Any]]:
    return list(yaml.safe_load(CASES.read_text())["tests"])


def fired(case: dict[str, Any]) -> list[dict[str, str]]:
    """The alerts that fire at each moment that the case looks at, with the names of their labels."""
    moments = [one for one in case["promql_expr_test"] if one["expr"] == 'ALERTS{alertstate="firing"}']
    found = ([FIRES.fullmatch(sample["labels"]) for sample in one["exp_samples"]] for one in moments)
    return [{alert[1]: alert[2] for alert in alerts if alert} for alerts in found]


def excluded(record: str, label: str) -> str:
    """What a rate leaves out by a label, as a regular expression."""
    (pattern,) = re.findall(rf'\b{label}!~"([^"]+)"', RECORDED[record])
    return str(pattern)


def rate(calls: str) -> str:
    return f"job_model_method:latentserve_{calls}_calls:rate5m"


def test_promtool_finds_no_fault() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.slow
def test_every_alert_does_what_its_cases_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(CASES))


def test_every_alert_has_a_case_in_which_it_is_silent_and_then_fires() -> None:
    moments = {case["name"]: fired(case) for case in cases()}
    assert moments.keys() == ALERTS.keys()
    for alert, seen in moments.items():
        assert alert not in seen[0], f"{alert} fires from the beginning"
        assert any(alert in one for one in seen), f"{alert} never fires"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    assert anchor == alert.lower()
    assert OPERATIONS.count(f'\n| <a id="{anchor}"></a>`{alert}`, {rule["labels"]["severity"]} |') == 1
    (moments,) = (fired(case) for case in cases() if case["name"] == alert)
    (labels,) = {tuple(re.findall(r"(\w+)=", one[alert])) for one in moments if alert in one}
    named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert named <= {*labels, "instance"}, "a label that the alert has not is empty"


def test_every_window_is_recorded_by_model_and_by_method() -> None:
    shares = product(("model", "method"), ("failed", "slow"), ("5m", "30m", "1h", "6h", "3d"))
    assert {f"job_{level}:latentserve_{calls}_calls:ratio_{window}" for level, calls, window in shares} == {
        record for record in RECORDED if ":ratio_" in record
    }


def test_the_shares_of_all_windows_are_made_alike() -> None:
    for record, expression in RECORDED.items():
        name, _, window = record.rpartition(":ratio_")
        if name and window != "5m":
            assert expression == RECORDED[f"{name}:ratio_1h"].replace("[1h]", f"[{window}]")


def test_only_what_the_server_tells_is_asked_for() -> None:
    told = set(re.findall(r"^\| `((?:latentserve|process)_\w+)` \|", OPERATIONS, re.MULTILINE)) | WITH_WORKERS
    parts = {name + part for name in told for part in ("_bucket", "_count", "_sum")}
    text = "\n".join([*RECORDED.values(), *(rule["expr"] for rule in ALERTS.values())])
    unrecorded = re.sub("|".join(map(re.escape, sorted(RECORDED, key=len, reverse=True))), "", text)
    named = set(re.findall(r"\b(?:latentserve|process)_\w+", unrecorded))
    assert named <= told | parts
    assert "latentserve_requests_total" in named


def test_every_code_but_those_of_callers_is_a_failure() -> None:
    codes = {code.name for code in grpc.StatusCode}
    failed = re.compile(excluded(rate("failed"), "code"))
    judged = re.compile(excluded(rate("judged"), "code"))
    assert {code for code in codes if not failed.fullmatch(code)} == FAILURES
    assert {code for code in codes if not judged.fullmatch(code)} == FAILURES | {"OK"}
    timed = re.compile(excluded(rate("timed"), "code"))
    assert {code for code in codes if not timed.fullmatch(code)} == FAILURES | {"OK", "CANCELLED"}


def test_changes_of_what_is_served_are_not_judged_and_streams_are_not_timed() -> None:
    services = [
        service
        for file in (generation_pb2, models_pb2, inference_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    methods = [method for service in services for method in service.methods]
    changes = {method.name for method in methods if method.containing_service.name == "ModelAdminService"}
    changes |= {"RepositoryModelLoad", "RepositoryModelUnload"}
    streams = {method.name for method in methods if method.server_streaming}
    assert set(excluded(rate("judged"), "method").split("|")) == changes
    assert set(excluded(rate("failed"), "method").split("|")) == changes
    assert set(excluded(rate("timed"), "method").split("|")) == changes | streams
