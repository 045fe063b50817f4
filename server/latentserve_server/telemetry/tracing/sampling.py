"""Which calls are traced: those whose callers say so, and by chance those whose callers say nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import NamedTuple

_TRACEPARENT = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""Version, trace, span, flags, and what a later version adds: https://www.w3.org/TR/trace-context/#traceparent-header"""
_SAMPLED = 1


class Parent(NamedTuple):
    """The span of a caller."""

    trace_id: int
    span_id: int
    flags: int
    state: str = ""
    """The text of `tracestate`."""


class Sampling:
    """The choice of the calls that are traced, before anything is made for them."""

    def __init__(self, ratio: float) -> None:
        """`ratio`, from 0 to 1, is the share of calls without a parent that is traced."""
        self._ratio = ratio

    def choose(self, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[bool, Parent | None]:
        """Whether a call of this metadata is traced, and its parent; a malformed `traceparent` counts as none."""
        parent = None
        for key, value in metadata:
            if key == "traceparent":
                parent = parent_of(str(value))
                break
        if parent is None:
            return random.random() < self._ratio, None
        if not parent.flags & _SAMPLED:
            return False, parent
        states = [str(value) for key, value in metadata if key == "tracestate"]
        return True, parent._replace(state=",".join(states))


def parent_of(text: str) -> Parent | None:
    """The span that a `traceparent` names; None where it is malformed."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    parent = Parent(int(trace, 16), int(span, 16), int(flags, 16))
    if version == "ff" or (version == "00" and more is not None) or not parent.trace_id or not parent.span_id:
        return None
    return parent
