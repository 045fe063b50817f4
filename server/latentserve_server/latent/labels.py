"""Labels of a call's rows, for conditional models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentserve_server.errors import InvalidArgument

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a call, each one that the model knows.

    `known` is the number of labels that the model knows, 0 for one that is not conditional.
    """

    values: tuple[int, ...]
    known: int
    field: str = "labels"

    def __post_init__(self) -> None:
        """Check them against what the model knows.

        Raises:
            InvalidArgument: the model has no labels, or not this one.
        """
        if self.values and not self.known:
            raise InvalidArgument(self.field, "the model has no labels; give none")
        check_known(self.field, np.array(self.values, np.int64), self.known)

    def check_rows(self, rows: int) -> None:
        """Make sure that every one of a call's rows has a label, where the model demands it.

        Raises:
            InvalidArgument: there are none, or neither one nor as many as rows.
        """
        if not self.known:
            return
        if not self.values:
            raise InvalidArgument(self.field, f"none; the model has {self.known} labels: give one, or one for each row")
        if len(self.values) not in (1, rows):
            raise InvalidArgument(self.field, f"{len(self.values)} labels for {rows} rows; give one, or one for each")

    def of_rows(self, rows: int) -> Int64 | None:
        """One label for each of a call's rows, int64 [rows]; None where the model has none.

        Raises:
            InvalidArgument: as `check_rows`.
        """
        self.check_rows(rows)
        if not self.known:
            return None
        values = np.array(self.values, np.int64)
        return np.repeat(values, rows) if len(values) == 1 else values

    def spread(self, rows: int, times: int) -> Labels:
        """The labels of rows of which each becomes `times` rows in a row.

        Raises:
            InvalidArgument: as `of_rows`.
        """
        labels = self.of_rows(rows)
        return self if labels is None else Labels(tuple(np.repeat(labels, times).tolist()), self.known, self.field)

    def of_indices(self, first_index: int, count: int) -> Int64 | None:
        """The label of each index from `first_index` on, int64 [count]: the labels in turn, all where there are none.

        None where the model has no labels.
        """
        if not self.known:
            return None
        values: Sequence[int] = self.values or range(self.known)
        return np.array(values, np.int64)[(first_index + np.arange(count)) % len(values)]


def check_known(field: str, labels: Int64, known: int) -> Int64:
    """The labels, where the model knows every one of them.

    Raises:
        InvalidArgument: it does not.
    """
    strange = np.flatnonzero((labels < 0) | (labels >= known))
    if len(strange):
        raise InvalidArgument(f"{field}[{strange[0]}]", f"{labels[strange[0]]}; 0 to {known - 1} are allowed")
    return labels


NO_LABELS = Labels((), 0)
"""What goes with the rows of a model that is not conditional."""
