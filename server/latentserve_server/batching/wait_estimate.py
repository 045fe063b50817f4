"""The expected wait in a queue, from the times of the last full batches."""

from __future__ import annotations

_WEIGHT = 0.1
"""Share of the newest batch in the average: some thirty batches are remembered."""


class WaitEstimate:
    """The time from one full batch's dispatch to its answer, in seconds, averaged over the last ones."""

    def __init__(self, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._enough = max_batch_rows // 2
        self._seconds: float | None = None
        self._dispatched: float | None = None

    def dispatch(self, now: float) -> None:
        """A batch goes to the engine."""
        self._dispatched = now

    def finish(self, rows: int, now: float) -> None:
        """It came back, with answers.

        Batches of half the size and more are averaged. A smaller one only bounds the average: a full batch takes at
        most as much longer as it has more rows, so that one stall is not remembered for long.
        """
        assert self._dispatched is not None
        seconds, self._dispatched = now - self._dispatched, None
        if rows >= self._enough:
            known = seconds if self._seconds is None else self._seconds
            self._seconds = known + _WEIGHT * (seconds - known)
        elif self._seconds is not None:
            self._seconds = min(self._seconds, seconds * self._max_batch_rows / rows)

    def discard(self) -> None:
        """The batch that was dispatched, if it has not come back, will not: it failed, or all callers left.

        How long it took says nothing of others.
        """
        self._dispatched = None

    def wait(self, batches: int, now: float) -> float:
        """Seconds until `batches` more batches will have run after the one under way; 0 while nothing is known."""
        if self._seconds is None:
            return 0.0
        under_way = 0.0 if self._dispatched is None else max(0.0, self._dispatched + self._seconds - now)
        return under_way + batches * self._seconds
