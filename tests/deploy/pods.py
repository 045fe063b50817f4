"""The pods that rendered documents lead to: a Deployment's, and those that KServe makes of a runtime and a service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.rendering import Document, only

from latentserve_server.configuration.config import ServerConfig, parse_address
from latentserve_server.configuration.sources import parse_config

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"
PREFIX = "LATENTSERVE_"


@dataclass(frozen=True)
class Pod:
    """What a pod is made of."""

    spec: dict[str, Any]
    """The PodSpec; of KServe's, without the container."""
    container: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def ports(self) -> dict[str, int]:
        """The container's ports by their names."""
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def variables(self) -> dict[str, str]:
        """The server's options among the variables, of the image and of the container."""
        return image_variables() | {entry["name"]: entry["value"] for entry in self.container.get("env", [])}

    def config(self, documents: list[Document], folder: Path) -> ServerConfig:
        """What the server makes of its arguments, the files that they name, written into a folder, and its variables.

        Raises:
            ConfigError: it refuses them.
        """
        return parse_config(self.arguments(documents, folder), self.variables)

    def arguments(self, documents: list[Document], folder: Path) -> list[str]:
        """Those of the container, with the files of ConfigMaps in a folder of this machine."""
        arguments = list(self.container.get("args", []))
        maps = {one["metadata"]["name"]: one["data"] for one in only("ConfigMap", documents)}
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            files = maps.get(volumes[mount["name"]].get("configMap", {}).get("name"), {})
            for name, text in files.items():
                (folder / name).write_text(text)
                inside = f"{mount['mountPath']}/{name}"
                arguments = [str(folder / name) if argument == inside else argument for argument in arguments]
        return arguments


def pods(documents: list[Document]) -> list[Pod]:
    """The pods, of which there is one kind or none."""
    found = []
    for deployment in only("Deployment", documents):
        template = deployment["spec"]["template"]
        (container,) = template["spec"]["containers"]
        found.append(Pod(template["spec"], container, template["metadata"]))
    for runtime in only("ServingRuntime", documents):
        (service,) = only("InferenceService", documents)
        (container,) = runtime["spec"]["containers"]
        found.append(Pod(service["spec"]["predictor"], container, {"annotations": runtime["spec"]["annotations"]}))
    return found


def image_variables() -> dict[str, str]:
    """The server's options that the image sets."""
    return dict(re.findall(rf"({PREFIX}\w+)=(\S+)", DOCKERFILE.read_text()))


def port_of(address: str) -> int:
    """The port of "host:port"."""
    return parse_address("an address", address)[1]
