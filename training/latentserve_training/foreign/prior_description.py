"""What a description says of a prior that was learned: a graph that draws latents, or a mixture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentserve.contract import MAX_LATENT_DIM
from latentserve_training.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ForeignPrior:
    """A distribution of latents: what a graph makes of N(0, I), or a Gaussian mixture."""

    graph: Path | None = None
    """The ONNX file of a graph that turns noise into latents, relative to the description's folder."""

    noise: str | None = None
    """Name of that graph's input; not needed where there is one."""

    noise_dim: int | None = None
    """Number of values that the input takes, N(0, 1) each; needed where the file does not say it."""

    latent: str | None = None
    """Name of that graph's output; not needed where there is one."""

    label: str | None = None
    """Name of that graph's input for labels, where it looks at them."""

    inputs: dict[str, Any] | None = None
    """Values, by name, of that graph's inputs that are the same in every call."""

    mixture: Path | None = None
    """NumPy archive or safetensors file of a mixture's weights, means, and factors or covariances."""

    @property
    def _of_graph(self) -> list[str]:
        """The options of a graph that are set."""
        options = ("noise", "noise_dim", "latent", "label", "inputs")
        return [name for name in options if getattr(self, name) is not None]

    def check(self, kind: str) -> None:
        """Raise ConfigError unless it is a graph or a mixture, and fits the kind of model."""
        if (self.graph is None) == (self.mixture is None):
            raise ConfigError("prior: name a graph or a mixture, and not both")
        if self.mixture is not None and self._of_graph:
            raise ConfigError(f"prior.{self._of_graph[0]} is for a graph; a mixture has none")
        if self.mixture is not None and kind == "vq":
            raise ConfigError("prior.mixture is for latents that are numbers; codes have a graph, or none")
        if self.noise_dim is not None and not 1 <= self.noise_dim <= MAX_LATENT_DIM:
            raise ConfigError(f"prior.noise_dim is {self.noise_dim}; it must be from 1 to {MAX_LATENT_DIM:,}")
