"""Model names of the Open Inference Protocol: NAME, NAME.encoder, NAME.reconstruct."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any


class Part(Enum):
    """What of a model is run; the value is what the name ends in."""

    DECODER = ""
    ENCODER = ".encoder"
    RECONSTRUCT = ".reconstruct"

    @property
    def graph(self) -> str:
        """What the metrics call it."""
        return self.name.lower()


def split_name(name: str, is_model: Callable[[str], bool]) -> tuple[str, Part]:
    """The name in the repository, and the part that is meant; `is_model` knows the repository's names.

    A model of the repository whose own name ends as a part's does comes first.
    """
    if not is_model(name):
        for part in (Part.ENCODER, Part.RECONSTRUCT):
            if name.endswith(part.value) and is_model(name.removesuffix(part.value)):
                return name.removesuffix(part.value), part
    return name, Part.DECODER


def base_of(name: str, is_model: Callable[[str], bool]) -> str:
    """The name in the repository, be there such a model or not."""
    return split_name(name, is_model)[0]


def model_of(request: Any, is_model: Callable[[str], bool]) -> str:
    """The model that a request is for; empty where it is for none, or for none of the repository's."""
    name, _ = split_name(str(getattr(request, "model_name", "") or getattr(request, "name", "")), is_model)
    return name if is_model(name) else ""
