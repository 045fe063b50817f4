"""Single arguments, checked and in the form of messages."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np

from latentserve.contract import TEMPERATURES, TRUNCATIONS
from latentserve.seed import draw_seed
from latentserve.v1 import bundle_pb2, generation_pb2
from latentserve_client.errors import RequestError
from latentserve_client.inputs import LabelsLike, Prior, Priority
from latentserve_client.models import ModelLike, ModelRef

ValueT = TypeVar("ValueT")

MAX_SEED = 2**64 - 1
MAX_UINT32 = 2**32 - 1

_PRIORITIES: dict[str, generation_pb2.Priority] = {
    "interactive": generation_pb2.PRIORITY_INTERACTIVE,
    "bulk": generation_pb2.PRIORITY_BULK,
}
_PRIORS: dict[str, bundle_pb2.Prior] = {
    "standard_normal": bundle_pb2.PRIOR_STANDARD_NORMAL,
    "mixture": bundle_pb2.PRIOR_MIXTURE,
    "graph": bundle_pb2.PRIOR_GRAPH,
}


def parse_ref(model: ModelLike) -> ModelRef:
    """The model that a caller means."""
    if isinstance(model, ModelRef):
        return model
    if not isinstance(model, str):
        raise RequestError(f"model is a {type(model).__name__}; give its name or a ModelRef")
    return ModelRef.parse(model)


def build_ref(model: ModelLike) -> generation_pb2.ModelRef:
    """The model that a caller means, as a message."""
    ref = parse_ref(model)
    return generation_pb2.ModelRef(name=ref.name, version=ref.version, alias=ref.alias)


def build_seed(field: str, seed: int | None) -> int:
    """`seed`, or one drawn here, so that a retried call has the noise of the first attempt."""
    return draw_seed() if seed is None else integer(field, seed, 0, MAX_SEED)


def build_priority(priority: Priority | None) -> generation_pb2.Priority:
    """Who may wait for whom; None leaves it to the server."""
    return generation_pb2.PRIORITY_UNSPECIFIED if priority is None else choice("priority", priority, _PRIORITIES)


def build_prior(prior: Prior | None) -> bundle_pb2.Prior:
    """What to draw from; None leaves it to the model."""
    return bundle_pb2.PRIOR_UNSPECIFIED if prior is None else choice("prior", prior, _PRIORS)


def build_labels(labels: LabelsLike | None) -> list[int]:
    """Labels as a message's list; an empty one for None."""
    if labels is None:
        return []
    each = [labels] if isinstance(labels, int | np.integer) else labels
    if not isinstance(each, Iterable):
        raise RequestError(f"labels is a {type(labels).__name__}; give an integer, or several")
    result = [integer(f"labels[{place}]", label, 0, MAX_UINT32) for place, label in enumerate(each)]
    if not result:
        raise RequestError("labels is empty; give at least one, or None")
    return result


def build_shaping(
    temperature: float | None, truncation: float | None, psi: float | None
) -> generation_pb2.Shaping | None:
    """How the noise is shaped, and the decoder's psi; None if neither is asked for."""
    if temperature is None and truncation is None and psi is None:
        return None
    return generation_pb2.Shaping(
        temperature=None if temperature is None else number("temperature", temperature, *TEMPERATURES),
        truncation=None if truncation is None else number("truncation", truncation, *TRUNCATIONS),
        psi=None if psi is None else number("psi", psi),
    )


def choice(field: str, word: str, values: Mapping[str, ValueT]) -> ValueT:
    """What `word` stands for, where it is one of those that do."""
    if word not in values:
        raise RequestError(f"{field} {word!r} is not one of {', '.join(values)}")
    return values[word]


def integer(field: str, value: int, low: int, high: int) -> int:
    """`value` as an int, where it is an integer from low to high."""
    try:
        result = operator.index(value)
    except TypeError:
        raise RequestError(f"{field} is a {type(value).__name__}; give an integer") from None
    if not low <= result <= high:
        raise RequestError(f"{field} {result} is not from {low} to {high}")
    return result


def number(field: str, value: float, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a float, where it is a finite number from low to high."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise RequestError(f"{field} is a {type(value).__name__}; give a number") from None
    if not (low <= result <= high and math.isfinite(result)):
        allowed = "finite" if math.isinf(low) else f"from {low:g} to {high:g}"
        raise RequestError(f"{field} {result} is not {allowed}")
    return result
