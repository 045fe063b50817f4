"""What a description says of one graph: its ONNX file, and the names of its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentserve.contract import MAX_NOISE_INPUTS
from latentserve_training.errors import ConfigError

SPREADS = (
    "log_variance",
    "variance",
    "standard_deviation",
    "log_standard_deviation",
    "standard_deviation_before_softplus",
)
"""What a tensor may be that tells how wide a posterior is."""
_EITHER = f"{', '.join(SPREADS[:-1])} or {SPREADS[-1]}"


@dataclass(frozen=True, kw_only=True)
class ForeignDecoder:
    """The graph from latents to images."""

    file: Path
    """The ONNX file, relative to the description's folder."""

    latent: str | None = None
    """Name of the input; not needed where there is one."""

    label: str | None = None
    """Name of the input for labels, in a model that has labels."""

    label_embeddings: Path | None = None
    """NumPy file [labels, ...] of what that input takes for each label, where that is neither a number nor one-hot."""

    inputs: dict[str, Any] | None = None
    """Values, by name, of inputs that are the same in every call: numbers or nested lists of them."""

    noise: list[str] | None = None
    """Names of inputs that are noise: N(0, 1), drawn anew for every image."""

    image: str | None = None
    """Name of the output that is the image; not needed where there is one."""

    logits: str | None = None
    """Name of the tensor, an output or not, whose sigmoid is the image; not needed where a Sigmoid node gives it."""

    log_scale: str | None = None
    """Name of the tensor, an output or not, that is the logarithm of each pixel's scale."""

    log_variance: str | None = None
    """Name of the tensor, an output or not, that is the logarithm of each pixel's variance."""

    @property
    def beside(self) -> list[str]:
        """The inputs that are described beside the latent."""
        return [*filter(None, [self.label]), *(self.inputs or ()), *(self.noise or ())]

    def check(self) -> None:
        """Raise ConfigError where an input is described twice, or there is too much noise."""
        noise, names = self.noise or [], [*filter(None, [self.latent]), *self.beside]
        if len(noise) > MAX_NOISE_INPUTS:
            raise ConfigError(f"decoder.noise names {len(noise)} inputs; at most {MAX_NOISE_INPUTS} are allowed")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            allowed = "an input is the latent, labels, noise or fixed"
            raise ConfigError(f"decoder: {twice[0]!r} is described twice; {allowed}")


@dataclass(frozen=True, kw_only=True)
class ForeignMoments:
    """A tensor that holds the posterior's mean and spread side by side."""

    tensor: str
    """Name of the output."""

    axis: int = 1
    """The axis that is halved, the batch being axis 0; -1 is the last."""

    order: list[str] = field(default_factory=lambda: ["mean", "log_variance"])
    """What the first half is and what the second, as the options are called that would name them."""

    def check(self) -> None:
        """Raise ConfigError if the axis or the order cannot be."""
        if self.axis == 0:
            raise ConfigError("encoder.moments.axis is 0, which is the batch; it must be another axis")
        if sorted([*self.order, "mean"]) not in [sorted(["mean", "mean", spread]) for spread in SPREADS]:
            raise ConfigError(f"encoder.moments.order is {self.order}; it must be mean and one of {_EITHER}")

    @property
    def spread(self) -> str:
        """Which one of `SPREADS` the half beside the mean is."""
        (spread,) = (half for half in self.order if half != "mean")
        return spread


@dataclass(frozen=True, kw_only=True)
class ForeignEncoder:
    """The graph from images to posteriors."""

    file: Path
    """The ONNX file, relative to the description's folder."""

    mean: str | None = None
    """Name of the output that is the posterior's mean."""

    log_variance: str | None = None
    """Name of the output that is the natural logarithm of the posterior's variance."""

    variance: str | None = None
    """Name of the output that is the posterior's variance."""

    standard_deviation: str | None = None
    """Name of the output that is the posterior's standard deviation."""

    log_standard_deviation: str | None = None
    """Name of the output that is the natural logarithm of the posterior's standard deviation."""

    standard_deviation_before_softplus: str | None = None
    """Name of the output whose softplus, log(1 + exp(x)), is the posterior's standard deviation."""

    moments: ForeignMoments | None = None
    """The output that holds mean and spread, where they are one tensor."""

    latent: str | None = None
    """Name of the output that is an autoencoder's latent; not needed where there is one."""

    codes: str | None = None
    """Name of the output that is a vector-quantised autoencoder's codes; not needed where there is one."""

    image: str | None = None
    """Name of the input; not needed where there is one."""

    label: str | None = None
    """Name of the input for labels, where the encoder of a model with labels looks at them."""

    label_embeddings: Path | None = None
    """NumPy file [labels, ...] of what that input takes for each label, where that is neither a number nor one-hot."""

    inputs: dict[str, Any] | None = None
    """Values, by name, of inputs that are the same in every call: numbers or nested lists of them."""

    def check(self, kind: str) -> None:
        """Raise ConfigError unless a VAE's mean and spread are named, once each, and of another kind neither."""
        for option, owner in (("latent", "autoencoder"), ("codes", "vq")):
            if getattr(self, option) is not None and kind != owner:
                raise ConfigError(f"encoder.{option} is for kind {owner}; the kind is {kind}")
        named = [spread for spread in SPREADS if getattr(self, spread) is not None]
        if kind != "vae":
            told = [*(["moments"] if self.moments else []), *(["mean"] if self.mean else []), *named]
            if told:
                raise ConfigError(f"encoder.{told[0]} is for kind vae; the kind is {kind}")
            return
        if self.moments is not None:
            if self.mean is not None or named:
                raise ConfigError("encoder.moments holds mean and spread; name them there or apart, not both")
            self.moments.check()
            return
        if self.mean is None:
            raise ConfigError("encoder.mean is missing, or encoder.moments where one tensor holds mean and spread")
        if len(named) != 1:
            raise ConfigError(f"encoder: name one of {_EITHER}")
