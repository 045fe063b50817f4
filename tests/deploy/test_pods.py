"""What holds for the pods of every rendering: their rights, their probes, their ports and their options."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deploy.pods import PREFIX, Pod, pods, port_of
from deploy.rendering import BACKSTOP_SECONDS, Document, only
from server_process import COMMAND

from latentserve_server.configuration.config import ServerConfig

MODEL_SERVICE = "latentserve.v1.ModelService"
SECRETS = {"latentserve-tls", "latentserve-tokens", "latentserve-s3"}
"""Those that docs/operations.md tells how to make."""


@pytest.fixture
def pod(documents: list[Document]) -> Pod:
    """The one kind of pod of a rendering."""
    (pod,) = pods(documents)
    return pod


@pytest.fixture
def config(pod: Pod, documents: list[Document], tmp_path: Path) -> ServerConfig:
    """What the server makes of the pod's options."""
    return pod.config(documents, tmp_path)


def test_pods_meet_the_restricted_standard(pod: Pod) -> None:
    """The controls of Kubernetes's Pod Security Standards, at the level "restricted"."""
    whole, own = pod.spec["securityContext"], pod.container["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == whole["runAsGroup"] == 65532
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & pod.spec.keys()
    assert all("hostPort" not in port for port in pod.container["ports"])
    kinds = {key for volume in pod.spec.get("volumes", []) for key in volume.keys() - {"name"}}
    assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}


def test_pods_have_no_token_of_the_cluster_and_no_variables_of_services(pod: Pod, documents: list[Document]) -> None:
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.spec["enableServiceLinks"] is False
    for account in only("ServiceAccount", documents):
        assert account["automountServiceAccountToken"] is False
        assert account["metadata"]["name"] == pod.spec["serviceAccountName"]


def test_pods_ask_for_what_they_take(pod: Pod) -> None:
    resources = pod.container["resources"]
    assert {"cpu", "memory"} <= resources["requests"].keys()
    assert {"cpu", "memory"} <= resources["limits"].keys()
    assert (
        resources["requests"]["cpu"] == resources["limits"]["cpu"]
    )  # whole processors, which are the server's threads
    assert float(resources["limits"]["cpu"]).is_integer()


def test_pods_are_probed_by_grpc_where_it_is_plain(pod: Pod) -> None:
    probes = {name: pod.container[f"{name}Probe"]["grpc"] for name in ("startup", "readiness", "liveness")}
    port = pod.ports["health" if f"{PREFIX}TLS_CERT" in pod.variables else "grpc"]
    assert probes == {
        "startup": {"port": port, "service": MODEL_SERVICE},
        "readiness": {"port": port},
        "liveness": {"port": port, "service": MODEL_SERVICE},
    }


def test_ports_are_those_at_which_the_server_listens(pod: Pod, config: ServerConfig) -> None:
    listening = {"grpc": port_of(config.listen), "metrics": port_of(config.metrics_listen)}
    if "health" in pod.ports:
        listening["health"] = port_of(config.health_listen)
    assert pod.ports == listening
    assert pod.metadata["annotations"]["prometheus.io/port"] == str(listening["metrics"])


def test_services_lead_to_the_ports_that_they_name(pod: Pod, documents: list[Document]) -> None:
    tls = f"{PREFIX}TLS_CERT" in pod.variables
    for service in only("Service", documents):
        assert service["spec"]["selector"].items() <= pod.metadata["labels"].items()
        (port,) = service["spec"]["ports"]
        assert port["name"] == port["targetPort"] == "grpc"
        assert port["port"] == pod.ports["grpc"]
        assert port["appProtocol"] == ("https" if tls else "kubernetes.io/h2c")


def test_scrapers_and_policies_name_ports_that_there_are(pod: Pod, documents: list[Document]) -> None:
    scheme = pod.metadata["annotations"].get("prometheus.io/scheme", "http")
    assert scheme == ("https" if f"{PREFIX}TLS_CERT" in pod.variables else "http")
    for monitor in only("PodMonitor", documents):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= pod.metadata["labels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in pod.ports
        assert endpoint["path"] == pod.metadata["annotations"]["prometheus.io/path"]
        assert endpoint.get("scheme", "http") == scheme
    for policy in only("NetworkPolicy", documents):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod.metadata["labels"].items()
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= pod.ports.keys()


def test_what_pods_mount_is_there_or_is_documented(pod: Pod, documents: list[Document]) -> None:
    maps = {one["metadata"]["name"] for one in only("ConfigMap", documents)}
    mounted = {mount["name"] for mount in pod.container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod.spec.get("volumes", [])}
    for volume in pod.spec.get("volumes", []):
        assert volume.get("configMap", {}).get("name") in {*maps, None}
        assert volume.get("secret", {}).get("secretName") in {*SECRETS, None}
        assert volume.get("persistentVolumeClaim", {}).get("claimName") in {"latentserve-models", None}


def test_files_that_options_name_are_in_what_is_mounted(pod: Pod) -> None:
    mounts = {mount["mountPath"] for mount in pod.container.get("volumeMounts", [])} | {"/mnt/models"}
    for variable, value in pod.variables.items():
        if value.startswith("/"):
            assert any(value == mount or value.startswith(f"{mount}/") for mount in mounts), variable


def test_options_are_those_of_the_server(pod: Pod, documents: list[Document], tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, *pod.arguments(documents, tmp_path), "--print-config"],
        env={"PATH": os.environ["PATH"], **pod.variables},
        capture_output=True,
        text=True,
        timeout=BACKSTOP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for variable, value in pod.variables.items():
        (line,) = (line for line in done.stdout.splitlines() if line.endswith(f"  # {variable}"))
        assert value.strip("0.") in line


def test_a_pod_may_drain_before_it_is_killed(pod: Pod, config: ServerConfig) -> None:
    assert config.drain_delay > 0
    assert config.drain_delay + config.drain_timeout < pod.spec["terminationGracePeriodSeconds"]


def test_connections_end_so_that_new_pods_get_some(config: ServerConfig) -> None:
    assert 0 < config.max_connection_age <= 600


def test_a_cache_has_room_in_its_volume(pod: Pod, config: ServerConfig) -> None:
    for volume in pod.spec.get("volumes", []):
        if (limit := volume.get("emptyDir", {}).get("sizeLimit")) is not None:
            assert config.cache_bytes < int(limit.removesuffix("Gi")) << 30


def test_a_deployment_has_a_number_of_pods_or_one_scaler(documents: list[Document]) -> None:
    for deployment in only("Deployment", documents):
        scalers = [*only("HorizontalPodAutoscaler", documents), *only("ScaledObject", documents)]
        assert ("replicas" in deployment["spec"]) == (not scalers)
        for scaler in scalers:
            assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
            assert least(scaler) >= 2  # so that the budget lets a node be drained, and an update keeps one answering


def least(scaler: dict[str, Any]) -> int:
    return int(scaler["spec"].get("minReplicas") or scaler["spec"].get("minReplicaCount"))


def test_the_budget_and_the_spread_are_those_of_the_pods(pod: Pod, documents: list[Document]) -> None:
    for budget in only("PodDisruptionBudget", documents):
        assert budget["spec"]["selector"]["matchLabels"].items() <= pod.metadata["labels"].items()
    for constraint in pod.spec.get("topologySpreadConstraints", []):
        assert constraint["labelSelector"]["matchLabels"].items() <= pod.metadata["labels"].items()
