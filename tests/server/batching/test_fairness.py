"""Shares of a queue's rows between callers, however many calls each of them makes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from queue_account import QueueAccount

from latentserve_server.batching.fairness import fair_shares
from latentserve_server.batching.queue import RowQueue, Slice, Ticket
from latentserve_server.errors import Overloaded

BATCH = 32
ROWS = st.integers(1, BATCH)


def queue(*, max_batch_rows: int = BATCH, max_rows: int = 1 << 40) -> RowQueue[Ticket]:
    return RowQueue(max_batch_rows=max_batch_rows, max_rows=max_rows, max_bytes=1 << 40)


def gather(waiting: RowQueue[Ticket]) -> list[Slice[Ticket]]:
    return waiting.gather(lambda _: True)


def rows_by_caller(slices: list[Slice[Ticket]]) -> Counter[object]:
    had: Counter[object] = Counter()
    for part in slices:
        had[part.ticket.caller] += part.rows
    return had


@given(room=st.integers(0, 300), demands=st.lists(st.integers(0, 100), max_size=12))
def test_rows_are_shared_out_evenly_and_none_is_left_that_one_wants(room: int, demands: list[int]) -> None:
    shares = fair_shares(room, demands)
    assert sum(shares) == min(room, sum(demands))
    for share, demand in zip(shares, demands, strict=True):
        assert 0 <= share <= demand
        assert share == demand or share >= max(shares) - 1, "who wants more has as many as anybody, but for the rest"


@given(
    calls=st.lists(st.lists(ROWS, min_size=40, max_size=60), min_size=2, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_no_caller_gets_ahead_of_another_by_more_than_a_call_of_each(calls: list[list[int]], order: object) -> None:
    """The bound of start-time fair queuing, over any time in which both have calls waiting."""
    waiting = queue()
    arrivals = [(caller, rows) for caller, sizes in enumerate(calls) for rows in sizes]
    order.shuffle(arrivals)  # type: ignore[attr-defined]
    left = Counter({caller: sum(sizes) for caller, sizes in enumerate(calls)})
    for caller, rows in arrivals:
        waiting.admit(Ticket(rows, caller=caller))
    had: Counter[object] = Counter()
    while all(left.values()):
        for caller, rows in rows_by_caller(gather(waiting)).items():
            had[caller] += rows
            left[caller] -= rows  # type: ignore[index]
        if all(left.values()):
            for one in left:
                for other in left:
                    assert had[one] - had[other] <= max(calls[one]) + max(calls[other])


def test_one_call_waits_for_about_as_many_rows_of_another_caller_as_it_has() -> None:
    waiting = queue(max_batch_rows=8)
    for _ in range(1000):
        waiting.admit(Ticket(1, caller="many"))
    gather(waiting)
    late = Ticket(4, caller="few")
    assert waiting.batches_until(late) == 1
    waiting.admit(late)
    assert rows_by_caller(gather(waiting)) == {"few": 4, "many": 4}


def test_who_was_idle_has_saved_nothing_up() -> None:
    waiting = queue(max_batch_rows=8)
    for _ in range(100):
        waiting.admit(Ticket(1, caller="busy"))
    for _ in range(5):
        gather(waiting)
    for caller in ("idle", "busy"):
        for _ in range(100):
            waiting.admit(Ticket(1, caller=caller))
    had: Counter[object] = Counter()
    for _ in range(5):
        had += rows_by_caller(gather(waiting))
    assert abs(had["idle"] - had["busy"]) <= 2


def test_calls_that_were_withdrawn_cost_their_caller_no_share() -> None:
    waiting = queue(max_batch_rows=8)
    for _ in range(50):
        gone = Ticket(8, caller="hasty")
        waiting.admit(gone)
        waiting.withdraw(gone)
    for caller in ("calm", "hasty"):
        for _ in range(20):
            waiting.admit(Ticket(1, caller=caller))
    assert rows_by_caller(gather(waiting)) == {"calm": 4, "hasty": 4}


@pytest.mark.parametrize(("many", "size"), [(1, 4000), (40, 100), (400, 10)])
def test_bulk_work_is_shared_by_callers_and_not_by_calls(many: int, size: int) -> None:
    waiting = queue()
    for _ in range(many):
        waiting.admit(Ticket(size, bulk=True, caller="many"))
    waiting.admit(Ticket(1000, bulk=True, caller="one"))
    for _ in range(20):
        assert rows_by_caller(gather(waiting)) == {"many": BATCH // 2, "one": BATCH // 2}


@pytest.mark.parametrize("callers", [2, 3, 7, 50])
def test_bulk_work_of_many_callers_takes_turns(callers: int) -> None:
    waiting = queue()
    for caller in range(callers):
        waiting.admit(Ticket(10_000, bulk=True, caller=caller))
    had = Counter(dict.fromkeys(range(callers), 0))
    for _ in range(100):
        rows = rows_by_caller(gather(waiting))
        assert sum(rows.values()) == BATCH
        had.update(rows)  # type: ignore[arg-type]
        assert max(had.values()) - min(had.values()) <= 1


def test_one_caller_leaves_the_last_quarter_of_the_queue_to_others() -> None:
    waiting = queue(max_rows=100)
    for _ in range(75):
        waiting.admit(Ticket(1, caller="first"))
    with pytest.raises(Overloaded, match=r"75 of at most 100 rows wait, 75 of them the caller's"):
        waiting.admit(Ticket(1, caller="first"))
    for _ in range(25):
        waiting.admit(Ticket(1, caller="second"))
    with pytest.raises(Overloaded, match="100 of at most 100 rows wait; 1 more do not fit"):
        waiting.admit(Ticket(1, caller="second"))


def test_a_call_as_large_as_the_queue_is_admitted_where_its_caller_has_nothing_there() -> None:
    waiting = queue(max_rows=100)
    waiting.admit(Ticket(100, caller="one"))
    assert waiting.rows == 100


def test_callers_that_are_not_told_apart_may_fill_the_queue() -> None:
    waiting = queue(max_rows=100)
    for _ in range(100):
        waiting.admit(Ticket(1))
    assert waiting.rows == 100


class SharedQueueMachine(QueueAccount):
    """Arrivals of several callers, in both lanes."""

    @initialize(max_batch_rows=st.integers(1, 20))
    def build(self, max_batch_rows: int) -> None:
        self.max_batch_rows = max_batch_rows
        self.queue = queue(max_batch_rows=max_batch_rows)

    @rule(rows=st.integers(1, 40), bulk=st.booleans(), caller=st.sampled_from([None, "a", "b", "c"]))
    def arrive(self, rows: int, bulk: bool, caller: str | None) -> None:
        ticket = Ticket(rows, bulk=bulk, caller=caller)
        self.queue.admit(ticket)
        self.waiting[ticket] = rows


TestSharedQueueMachine = SharedQueueMachine.TestCase
