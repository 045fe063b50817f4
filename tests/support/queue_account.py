"""A queue of rows under departures and batches in any order, beside a plain account of what waits."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from latentserve_server.batching.queue import RowQueue, Ticket


class QueueAccount(RuleBasedStateMachine):
    """What holds of every queue. Who takes it over makes the queue, and lets calls arrive."""

    queue: RowQueue[Ticket]
    max_batch_rows: int

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[Ticket, int] = {}

    @rule(place=st.integers(0, 50))
    def leave(self, place: int) -> None:
        if self.waiting:
            ticket = list(self.waiting)[place % len(self.waiting)]
            self.queue.withdraw(ticket)
            self.queue.withdraw(ticket)
            del self.waiting[ticket]

    @rule(unwanted=st.sets(st.integers(0, 20)))
    def run_batch(self, unwanted: set[int]) -> None:
        gone = {ticket for place, ticket in enumerate(self.waiting) if place in unwanted}
        slices = self.queue.gather(lambda ticket: ticket not in gone)
        assert sum(part.rows for part in slices) <= self.max_batch_rows
        assert len({part.ticket for part in slices}) == len(slices)
        for part in slices:
            assert part.ticket not in gone
            assert part.rows > 0
            assert part.start == part.ticket.rows - self.waiting[part.ticket]
            self.waiting[part.ticket] -= part.rows
        self.waiting = {t: rows for t, rows in self.waiting.items() if rows and not t.withdrawn}
        assert slices or not self.waiting

    @invariant()
    def the_counter_is_the_sum_of_what_waits(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.rows == sum(self.waiting.values())

    def teardown(self) -> None:
        for _ in range(len(self.waiting) + sum(self.waiting.values())):
            self.run_batch(set())
        assert not self.waiting
        if hasattr(self, "queue"):
            assert self.queue.rows == 0
