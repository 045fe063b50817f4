"""Every value that was measured, by name and round."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping

UNDISTURBED_SHARE = 0.9
"""Of its core, which a server that is kept busy has where nothing else runs there."""


class Figures:
    """Every value of every round, by name."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """Keep the value of one more round."""
        self.values[name].append(value)

    def median(self, name: str) -> float:
        """The median of the rounds."""
        return statistics.median(self.values[name])

    def ratios(self, above: str, below: str) -> list[float]:
        """One by the other, round by round."""
        return [a / b for a, b in zip(self.values[above], self.values[below], strict=True)]

    def disturbed(self) -> tuple[int, int]:
        """Measurements in which a busy server had less of its core than it has alone; and how many there were."""
        lanes = [
            values for name, values in self.values.items() if name.endswith(".core_share") and "single/" not in name
        ]
        shares = [share for values in lanes for share in values]
        return sum(share < UNDISTURBED_SHARE for share in shares), len(shares)

    def summary(self) -> dict[str, Mapping[str, object]]:
        """Every value, with median, least and largest."""
        return {
            name: {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}
            for name, values in sorted(self.values.items())
        }
