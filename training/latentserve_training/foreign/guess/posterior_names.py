"""What an encoder's outputs are called that are a posterior's mean, its spread, or both."""

from __future__ import annotations

import re
from collections.abc import Collection

_MEANS = ("mean", "mu", "loc")
_MOMENTS = ("moments", "parameters")
_SPREADS = {
    "log_variance": ("logvariance", "logvar", "logcovariance"),
    "variance": ("variance",),
    "standard_deviation": ("standarddeviation", "stddev", "std"),
    "log_standard_deviation": ("logstandarddeviation", "logstd", "logstddev"),
}
"""By what they are, in small letters. `sigma` and `var` are left out: either is written for more than one."""
_OWNER = re.compile(r"^(?:z|q|latent|posterior|encoder)(?=[_.\d-])")
_SEPARATOR = re.compile(r"[_.\s-]+")


def is_mean(name: str, beside: Collection[str]) -> bool:
    """Whether the output's name says that it is the mean; pythae calls it so beside a `log_covariance`."""
    return _bare(name) in _MEANS or (name == "embedding" and "log_covariance" in beside)


def is_moments(name: str) -> bool:
    """Whether the output's name says that it is mean and log-variance side by side, as diffusers calls them."""
    return _bare(name) in _MOMENTS


def spread_of(name: str) -> str | None:
    """Which spread the output's name says that it is; None where it says none."""
    return next((spread for spread, words in _SPREADS.items() if _bare(name) in words), None)


def _bare(name: str) -> str:
    """The name in small letters, without separators and without whose it is: `z_log_var` is `logvar`."""
    return _SEPARATOR.sub("", _OWNER.sub("", name.lower()))
