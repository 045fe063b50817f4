"""A value and its limit as text, with enough digits to differ."""

from __future__ import annotations


def apart(value: float, limit: float, digits: int = 4) -> tuple[str, str]:
    """A number and its limit as text, with enough significant digits, at least `digits`, to tell them apart."""
    value, limit = value + 0.0, limit + 0.0  # -0 is 0, and told as such
    for count in range(digits, 18):
        texts = f"{value:.{count}g}", f"{limit:.{count}g}"
        if texts[0] != texts[1] or value == limit:
            break
    return texts
