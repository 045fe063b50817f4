"""What kustomize makes of deploy/kubernetes: of the base, the overlays, and combinations of components."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
ENVIRONMENT = Path(sys.prefix) / "deploy"
"""Where `make test-deploy` installs what renders and checks."""
KUBECTL = ENVIRONMENT / "bin" / "kubectl"
BACKSTOP_SECONDS = 300.0

Document = dict[str, Any]

OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(folder.name for folder in (KUBERNETES / "components").iterdir())
COMBINATIONS = [
    ["gpu", "pod-monitor", "tls", "tokens", "keda", "network-policy", "priority"],
    ["s3", "pod-monitor", "mutual-tls", "tokens", "hpa", "network-policy", "network-policy-bucket"],
    ["hpa-queue", "priority", "tokens", "mesh", "gpu", "s3", "pod-monitor"],
]
"""Each component that goes with many, in more than one company and order."""


class RenderError(Exception):
    """Kustomize's own words."""


def render(folder: Path) -> list[Document]:
    """The documents that `kubectl kustomize` prints for a folder.

    Raises:
        RenderError: kustomize refuses it.
    """
    command = [str(KUBECTL), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BACKSTOP_SECONDS, check=False)
    if done.returncode:
        raise RenderError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def combine(components: list[str], folder: Path, tree: Path = KUBERNETES) -> list[Document]:
    """The base of a tree with components of it, by an overlay that is written into an empty folder.

    Raises:
        RenderError: kustomize refuses it.
    """
    # Kustomize takes relative paths alone, and follows links before it does.
    tree = Path(os.path.relpath(tree.resolve(), folder.resolve()))
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(tree / "base")],
        "components": [str(tree / "components" / name) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return render(folder)


def render_all(folder: Path) -> dict[str, list[Document]]:
    """The documents of the base, every overlay, every component alone, and the combinations, by their names."""
    plain = {name: KUBERNETES / "overlays" / name for name in OVERLAYS} | {"base": KUBERNETES / "base"}
    combined = {name: folder / str(number) for number, name in enumerate(_combined_names())}
    for place in combined.values():
        place.mkdir()
    with ThreadPoolExecutor(2) as threads:
        rendered = dict(zip(plain, threads.map(render, plain.values()), strict=True))
        made = threads.map(lambda name: combine(name.split(" + "), combined[name]), combined)
        rendered.update(zip(combined, made, strict=True))
    return rendered


def _combined_names() -> Iterator[str]:
    yield from COMPONENTS
    yield from (" + ".join(components) for components in COMBINATIONS)


NAMES = ["base", *OVERLAYS, *_combined_names()]


def only(kind: str, documents: list[Document]) -> list[Document]:
    """Those of one kind."""
    return [document for document in documents if document["kind"] == kind]
