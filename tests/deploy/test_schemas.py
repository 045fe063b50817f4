"""All that kustomize makes of deploy/kubernetes is what Kubernetes and the operators take; mistakes are found."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from deploy.rendering import BACKSTOP_SECONDS, ENVIRONMENT, KUBERNETES, NAMES, Document, RenderError, combine, render

SCRIPT = Path(__file__).with_name("check_schemas.py")

MISTAKES = {
    "a field that is none": ("base/deployment.yaml", "  replicas: 2", "  replica: 2", "replica"),
    "a text for a number": ("base/deployment.yaml", "  replicas: 2", "  replicas: two", "two"),
    "a field of a container that is none": (
        "base/deployment.yaml",
        "readinessProbe:",
        "readinesProbe:",
        "readinesProbe",
    ),
    "a text for a boolean": ("base/deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: yes please", "yes please"),
    "a field of a budget": ("base/disruption-budget.yaml", "maxUnavailable", "maxUnavaible", "maxUnavaible"),
    "a version that is gone": ("base/disruption-budget.yaml", "policy/v1", "policy/v1beta1", "policy/v1beta1"),
    "a field of a component's patch": ("components/gpu/deployment.yaml", "operator:", "operater:", "operater"),
    "a field of a policy": ("components/network-policy/network-policy.yaml", "  ingress:", "  ingres:", "ingres"),
    "a type of an autoscaler": ("components/hpa/autoscaler.yaml", "maxReplicas: 8", "maxReplicas: eight", "eight"),
    "a field of KEDA's": ("components/keda/scaled-object.yaml", "minReplicaCount", "minReplicas", "minReplicas"),
    "a type of KEDA's": ("components/keda/scaled-object.yaml", 'threshold: "4"', "threshold: 4", "threshold"),
    "a version of KEDA's": ("components/keda/scaled-object.yaml", "keda.sh/v1alpha1", "keda.sh/v1", "keda.sh/v1"),
    "a field of cert-manager's": ("components/tls/certificate.yaml", "renewBefore", "renewsBefore", "renewsBefore"),
    "a type of cert-manager's": ("components/tls/certificate.yaml", "size: 256", "size: P-256", "P-256"),
    "a field of the operator's": ("components/pod-monitor/pod-monitor.yaml", "- port:", "- prot:", "prot"),
    "a type of the operator's": (
        "components/pod-monitor/pod-monitor.yaml",
        "path: /metrics",
        "path: [/metrics]",
        "path",
    ),
    "a field of a runtime": ("overlays/kserve/serving-runtime.yaml", "protocolVersions", "protocols", "protocols"),
    "a field of its container": (
        "overlays/kserve/serving-runtime.yaml",
        "failureThreshold: 150",
        "failures: 150",
        "failures",
    ),
    "a field of a service": ("overlays/kserve/inference-service.yaml", "storageUri", "storageURL", "storageURL"),
    "a type of a service": ("overlays/kserve/inference-service.yaml", "minReplicas: 2", "minReplicas: two", "two"),
}
"""By what is wrong: the file, what stands there, what is put in its place, and what must be said of it."""


CLAIM = "the claim beside the base"


@pytest.fixture(scope="module")
def problems(rendered: dict[str, list[Document]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is said against each rendering, the claim, and each copy with a mistake, by kustomize or by the schemas."""
    said, made = {}, {**rendered, CLAIM: [yaml.safe_load((KUBERNETES / "models-claim.yaml").read_text())]}
    for number, (what, (file, right, wrong, _)) in enumerate(MISTAKES.items()):
        folder = tmp_path_factory.mktemp(f"mistake-{number}")
        try:
            made[what] = rendered_with(folder, file, right, wrong)
        except RenderError as error:
            said[what] = [str(error)]
    return said | check(made)


def check(made: dict[str, list[Document]]) -> dict[str, list[str]]:
    """What the schemas say against lists of documents; alike documents are looked at once, and all by one process."""
    unlike = {json.dumps(document): document for documents in made.values() for document in documents}
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "python", SCRIPT],
        input=json.dumps(list(unlike.values())),
        capture_output=True,
        text=True,
        timeout=BACKSTOP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = dict(zip(unlike, json.loads(done.stdout), strict=True))
    return {name: [one for document in made[name] for one in said[json.dumps(document)]] for name in made}


def rendered_with(folder: Path, file: str, right: str, wrong: str) -> list[Document]:
    """What is rendered of a copy of deploy/kubernetes in which one file has been changed."""
    tree = folder / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    text = (tree / file).read_text()
    assert right in text
    (tree / file).write_text(text.replace(right, wrong))
    place = Path(file).parts
    if place[0] == "components":
        overlay = folder / "overlay"
        overlay.mkdir()
        return combine([place[1]], overlay, tree)
    return render((tree / file).parent)


@pytest.mark.parametrize("name", [*NAMES, CLAIM])
def test_every_document_is_what_kubernetes_and_the_operators_take(name: str, problems: dict[str, list[str]]) -> None:
    assert problems[name] == []


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_copy_is_found(what: str, problems: dict[str, list[str]]) -> None:
    assert MISTAKES[what][-1] in "\n".join(problems[what])


@pytest.mark.parametrize(
    "components",
    [
        ["hpa", "keda"],
        ["keda", "hpa-queue"],
        ["mesh", "tls"],
        ["tls", "mesh"],
        ["mutual-tls", "mesh"],
        ["tls", "pod-monitor"],
    ],
    ids=" + ".join,
)
def test_components_that_do_not_go_together_are_refused(components: list[str], tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=components[-1]):
        combine(components, tmp_path)
