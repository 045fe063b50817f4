"""A posterior as a foreign encoder tells it, in one tensor or two, and as a bundle does: mean and log-variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.errors import ExportError
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.graph_description import SPREADS, ForeignEncoder
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.tensor import FLOATS, as_rows, batch_of, dtype_of, require_size

_SMALLEST = np.finfo(np.float32).tiny
"""Added to a variance or deviation in a graph, so that one that has run out of float32 has a finite logarithm."""
_STEEP = -4.0
"""Below it log(1 + exp(x)), which is how ONNX defines Softplus, has lost digits where float32 is taken at its word."""


def log_variance_of(spread: str, values: NDArray[Any], where: str) -> NDArray[np.float64]:
    """The log-variance of what `spread`, one of `SPREADS`, calls the values.

    Raises:
        ExportError: a variance or a standard deviation is not positive.
    """
    exact = values.astype(np.float64)
    if spread in ("variance", "standard_deviation"):
        if not (exact > 0).all():
            plural = "variances" if spread == "variance" else "deviations"
            raise ExportError(
                f"encoder: {where} is not positive everywhere, as {plural} are; "
                "the logarithm of a variance is named in encoder.log_variance"
            )
        return (1 if spread == "variance" else 2) * np.log(exact)
    if spread == "standard_deviation_before_softplus":
        # log(log(1 + e)) of e = exp(x), which is x where e is too small to be seen beside 1.
        return 2 * np.where(exact < -30, exact, np.log(np.logaddexp(0, np.maximum(exact, -30))))
    return exact if spread == "log_variance" else 2 * exact


def add_log_variance(nodes: Nodes, spread: str, value: str) -> str:
    """Add what makes a log-variance of what `spread` calls the float32 tensor."""
    two = np.float32(2)
    if spread == "log_variance":
        return value
    if spread in ("variance", "standard_deviation"):
        logarithm = nodes.add("Log", nodes.add("Add", value, _SMALLEST))
        return logarithm if spread == "variance" else nodes.add("Mul", logarithm, two)
    if spread == "standard_deviation_before_softplus":
        value = _add_log_softplus(nodes, value)
    return nodes.add("Mul", value, two)


def _add_log_softplus(nodes: Nodes, value: str) -> str:
    """log(log(1 + e)), e = exp(value): below `_STEEP` by the series log(1 + e) = e (1 - e/2 + e^2/3 - e^3/4 + ...).

    Both sides are added, each held at `_STEEP` where the other one counts, and what they both have there is taken away.
    """
    steep, largest = np.float32(_STEEP), np.finfo(np.float32).max
    low = nodes.add("Clip", value, -largest, steep)
    small = nodes.add("Exp", low)
    series: str | np.generic = np.float32(-1 / 4)
    for factor in (1 / 3, -1 / 2, 1.0):
        series = nodes.add("Add", nodes.add("Mul", small, series), np.float32(factor))
    below = nodes.add("Add", low, nodes.add("Log", series))
    above = nodes.add("Log", nodes.add("Softplus", nodes.add("Clip", value, steep, largest)))
    both = np.float32(np.log(np.logaddexp(0, _STEEP)))
    return nodes.add("Add", below, nodes.add("Sub", above, both))


def posterior_tensors(graph: ForeignGraph, names: ForeignEncoder) -> list[str]:
    """The outputs that hold the mean and the spread, or both.

    Raises:
        ExportError: there is no such output.
    """
    if names.moments is not None:
        return [graph.output(names.moments.tensor)]
    told = [names.mean, *(getattr(names, spread) for spread in SPREADS)]
    return list(dict.fromkeys(graph.output(name) for name in told if name is not None))


@dataclass(frozen=True)
class PosteriorTensors:
    """Where the mean and the spread of a posterior over `shape` lie in a foreign graph."""

    mean: str
    spread: str
    """One of `SPREADS`."""
    scale: str
    """The tensor that holds it; that of the mean, too, where they are halves of one."""
    dtypes: Mapping[str, int]
    """The element types of the tensors, of onnx.TensorProto's."""
    axis: int = 1
    """The axis that is halved, where they are halves of one tensor."""
    mean_first: bool = True

    @classmethod
    def of(cls, graph: ForeignGraph, names: ForeignEncoder, description: ForeignModel) -> PosteriorTensors:
        """The tensors that the description names.

        Raises:
            ExportError: one is no output, has another size, or an element type that is not known here.
        """
        if names.moments is None:
            (spread,) = (spread for spread in SPREADS if getattr(names, spread) is not None)
            mean, scale = graph.output(names.mean), graph.output(getattr(names, spread))
            for name in (mean, scale):
                require_size(graph, name, description.latent_size, description.latent_option)
            return cls(mean, spread, scale, {name: dtype_of(graph, name, FLOATS) for name in (mean, scale)})
        moments = names.moments
        tensor = graph.output(moments.tensor)
        require_size(graph, tensor, 2 * description.latent_size, f"twice {description.latent_option}")
        _require_even(graph.shape(tensor), moments.axis, tensor)
        dtypes = {tensor: dtype_of(graph, tensor, FLOATS)}
        return cls(tensor, moments.spread, tensor, dtypes, moments.axis, moments.order[0] == "mean")

    @property
    def halves(self) -> bool:
        """Whether mean and spread are halves of one tensor."""
        return self.mean == self.scale

    def read(
        self, found: Mapping[str, NDArray[Any]], count: int, sides: tuple[int, ...]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and log-variance, float64 [count, d], of what the foreign graph has given; d = product of the sides.

        Raises:
            ExportError: they have another size, or the spread is not what it is said to be.
        """
        parts = [found[self.mean], found[self.scale]]
        if self.halves:
            parts = _halved(found[self.mean], self.axis, self.mean)
            parts = parts if self.mean_first else parts[::-1]
        names = (self.mean, self.scale)
        mean, spread = (
            as_rows(part, count, sides, f"encoder: {name!r}").reshape(count, -1)
            for part, name in zip(parts, names, strict=True)
        )
        return mean.astype(np.float64), log_variance_of(self.spread, spread, repr(self.scale))

    def add(self, nodes: Nodes, mean: str, scale: str) -> tuple[str, str]:
        """Add what makes float32 mean and log-variance, in the graph's own shape, of its tensors under these names."""
        parts = (mean, scale)
        if self.halves:
            parts = nodes.split(mean, self.axis)
            parts = parts if self.mean_first else parts[::-1]
        own, spread = (
            nodes.cast(part, self.dtypes[name], TensorProto.FLOAT)
            for part, name in zip(parts, (self.mean, self.scale), strict=True)
        )
        return own, add_log_variance(nodes, self.spread, spread)


def _halved(array: NDArray[Any], axis: int, name: str) -> list[NDArray[Any]]:
    _require_even(array.shape[1:], axis, name)
    return np.split(array, 2, axis)


def _require_even(shape: tuple[int, ...] | None, axis: int, name: str) -> None:
    """Raise ExportError if a tensor of such rows has no halves along the axis."""
    if shape is None:
        return
    rank = 1 + len(shape)
    place = axis % rank if -rank <= axis < rank else 0
    if place == 0 or shape[place - 1] % 2:
        raise ExportError(f"encoder: {name!r} is {batch_of(shape)}, which has no halves along axis {axis}")
