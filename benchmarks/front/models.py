"""The models that are measured: where their graphs are and what goes in, read from their manifests."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from front.processes import BenchError

LIGHT, HEAVY = "mlp_gan", "conv_vae"
"""Of the demo's models: one whose calls cost more than its rows, one whose rows do."""


@dataclass(frozen=True)
class Model:
    """The highest version of one model of the repository."""

    name: str
    folder: Path
    manifest: dict[str, Any]

    def graph(self, role: str) -> Path:
        """The file of the float32 graph of a role, "DECODER" or "ENCODER"."""
        return (self.folder / str(self._graph(role)["file"]["path"])).resolve()

    def has(self, role: str) -> bool:
        """Whether there is such a graph."""
        return any(graph["role"] == f"GRAPH_ROLE_{role}" for graph in self.manifest["graphs"])

    def tensors(self, role: str, side: str) -> list[tuple[str, str, list[int]]]:
        """Name, element type ("FLOAT32") and shape of a row of a graph's "inputs" or "outputs"."""
        found = self._graph(role)[side]
        return [(t["name"], t["dtype"].removeprefix("DTYPE_"), [int(n) for n in t["shape"]]) for t in found]

    @property
    def latent_dim(self) -> int:
        """Values of a latent."""
        return int(self.manifest["latent"]["dim"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        image = self.manifest["image"]
        return int(image["channels"]), int(image["height"]), int(image["width"])

    @property
    def float_bytes(self) -> int:
        """Bytes of an image of float32."""
        return 4 * math.prod(self.image_shape)

    def _graph(self, role: str) -> dict[str, Any]:
        wanted = f"GRAPH_ROLE_{role}"
        for graph in self.manifest["graphs"]:
            if graph["role"] == wanted and graph.get("precision", "PRECISION_FLOAT32") == "PRECISION_FLOAT32":
                return dict(graph)
        raise BenchError(f"model {self.name} has no float32 {role.lower()}")


def find(repository: Path, name: str) -> Model:
    """The highest version of a model. Raises BenchError where there is none."""
    folder = repository / name
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    if not versions:
        raise BenchError(f"{repository} has no model {name}: `make demo` makes the models that are measured")
    newest = folder / str(max(versions))
    return Model(name, newest, json.loads((newest / "manifest.json").read_text()))
