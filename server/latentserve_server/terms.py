"""On what terms a call is answered: until when, behind whom, and in which form its images come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PixelForm(Enum):
    """The form in which a decoder gives images; the value is the output's name in the graph."""

    FLOAT32 = "image"
    UINT8 = "image_uint8"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a caller waits, and whether for others: `deadline` is a time of the event loop's clock, in seconds."""

    deadline: float = float("inf")
    bulk: bool = False
