"""Autoscalers ask for metrics that a server shows, and by labels that they have."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import yaml
from deploy.rendering import KUBERNETES, Document, only
from prometheus_client.parser import text_string_to_metric_families
from running_server import running_server, scrape
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2 as pb

NAME = re.compile(r"\blatentserve_\w+")
TARGET_LABELS = {"namespace", "pod"}
"""What Prometheus adds to each series of a pod."""


@pytest.fixture
async def page(tmp_path: Path) -> dict[str, set[str]]:
    """The series on the metrics page of a server that has answered a call, with the labels of each."""
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, metrics_listen="127.0.0.1:0") as served:
        await served.generation.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1))
        text = await asyncio.to_thread(scrape, served.server.metrics_port)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.labels.keys() | TARGET_LABELS for sample in samples}


def check(query: str, page: dict[str, set[str]]) -> None:
    """Each name in the query is a series of the page, and each label that it selects by is one of that series."""
    selectors = re.findall(r"\b(latentserve_\w+)\{([^}]*)\}", query)
    assert [name for name, _ in selectors] == NAME.findall(query) != []
    for name, selector in selectors:
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= page[name]


async def test_keda_asks_for_them(rendered: dict[str, list[Document]], page: dict[str, set[str]]) -> None:
    (scaler,) = only("ScaledObject", rendered["keda"])
    queries = [trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]]
    assert len(queries) == 2
    for query in queries:
        check(query, page)
        assert 'namespace="NAMESPACE"' in query  # which an overlay is to set


async def test_an_autoscaler_asks_the_adapter_for_what_its_rule_makes(
    rendered: dict[str, list[Document]], page: dict[str, set[str]]
) -> None:
    (scaler,) = only("HorizontalPodAutoscaler", rendered["hpa-queue"])
    (metric,) = scaler["spec"]["metrics"]
    (rule,) = yaml.safe_load((KUBERNETES / "components" / "hpa-queue" / "adapter-rules.yaml").read_text())
    assert metric["pods"]["metric"]["name"] == rule["name"]["matches"]
    assert NAME.findall(rule["seriesQuery"]) == [metric["pods"]["metric"]["name"]]
    check(rule["seriesQuery"], page)


def test_a_query_for_what_is_not_there_is_found(page: dict[str, set[str]]) -> None:
    with pytest.raises(KeyError):
        check('sum(latentserve_queue_length{namespace="a"})', page)
    with pytest.raises(AssertionError):
        check('sum(latentserve_queue_rows{deployment="a"})', page)
