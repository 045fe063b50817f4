"""Which rows run next: bounds, order and fairness, counted in batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from queue_account import QueueAccount

from latentserve_server.batching.queue import RowQueue, Slice, Ticket
from latentserve_server.errors import Overloaded


def queue_of(*rows: int, max_batch_rows: int = 8) -> tuple[RowQueue[Ticket], list[Ticket]]:
    queue: RowQueue[Ticket] = RowQueue(max_batch_rows=max_batch_rows, max_rows=10_000, max_bytes=1 << 40)
    tickets = [Ticket(count) for count in rows]
    for ticket in tickets:
        queue.admit(ticket)
    return queue, tickets


def gather(queue: RowQueue[Ticket]) -> list[Slice[Ticket]]:
    return queue.gather(lambda _: True)


class QueueMachine(QueueAccount):
    """Arrivals of callers who are not told apart, at a queue that may be full."""

    @initialize(max_batch_rows=st.integers(1, 40), spare=st.integers(0, 100))
    def build(self, max_batch_rows: int, spare: int) -> None:
        self.max_batch_rows, self.max_rows = max_batch_rows, 60 + spare
        self.queue = RowQueue(max_batch_rows=max_batch_rows, max_rows=self.max_rows, max_bytes=1 << 40)

    @rule(rows=st.integers(1, 60))
    def arrive(self, rows: int) -> None:
        ticket = Ticket(rows)
        if sum(self.waiting.values()) + rows > self.max_rows:
            with pytest.raises(Overloaded, match=f"at most {self.max_rows} rows wait; {rows} more do not fit"):
                self.queue.admit(ticket)
        else:
            self.queue.admit(ticket)
            self.waiting[ticket] = rows


TestQueueMachine = QueueMachine.TestCase


@given(rows=st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_calls_of_up_to_three_quarters_of_a_batch_run_whole_and_in_order(rows: list[int]) -> None:
    queue, tickets = queue_of(*rows, 40)
    taken: list[Ticket] = []
    while queue.rows:
        for part in gather(queue):
            if part.ticket.rows <= 6:
                assert (part.start, part.stop) == (0, part.ticket.rows)
                taken.append(part.ticket)
    assert taken == tickets[:-1]


def test_a_small_call_that_comes_while_a_huge_one_waits_is_in_the_next_batch() -> None:
    queue, (huge,) = queue_of(1000)
    gather(queue)
    for _ in range(5):
        small = Ticket(6)
        queue.admit(small)
        assert small in [part.ticket for part in gather(queue)]
    assert huge.remaining


def batches_under_small_ones(rows: int, max_batch_rows: int) -> int:
    """Batches until a large call is through, where small calls that would fill every batch keep coming."""
    queue, (large,) = queue_of(rows, max_batch_rows=max_batch_rows)
    batches = 0
    while large.remaining and batches < 8 * rows:
        for _ in range(max_batch_rows):
            queue.admit(Ticket(1))
        gather(queue)
        batches += 1
    return batches


@pytest.mark.parametrize("max_batch_rows", [4, 5, 7, 8, 64])
def test_a_large_call_has_a_quarter_of_every_batch_under_an_unending_stream_of_small_ones(max_batch_rows: int) -> None:
    quarter = -(-max_batch_rows // 4)
    assert batches_under_small_ones(3 * max_batch_rows, max_batch_rows) == -(-3 * max_batch_rows // quarter)


@pytest.mark.parametrize("max_batch_rows", [1, 2, 3])
def test_a_large_call_does_not_starve_where_a_batch_is_tiny(max_batch_rows: int) -> None:
    rows = 3 * max_batch_rows
    assert batches_under_small_ones(rows, max_batch_rows) < 8 * rows


def test_large_calls_share_a_batch_evenly() -> None:
    queue, large = queue_of(100, 100, 100, max_batch_rows=30)
    for _ in range(9):
        assert sorted(part.rows for part in gather(queue)) == [10, 10, 10]
    assert [ticket.remaining for ticket in large] == [10, 10, 10]


def test_many_large_calls_take_turns_of_a_quarter_of_a_batch() -> None:
    queue, large = queue_of(*[100] * 12, max_batch_rows=64)
    for _ in range(12):
        assert [part.rows for part in gather(queue)] == [16] * 4
    assert [ticket.taken for ticket in large] == [64] * 12


@pytest.mark.parametrize("max_batch_rows", [1, 2, 5, 30])
def test_no_large_call_gets_more_than_a_turn_ahead_of_another(max_batch_rows: int) -> None:
    queue, large = queue_of(*[20 * max_batch_rows] * 7, max_batch_rows=max_batch_rows)
    for _ in range(50):
        assert sum(part.rows for part in gather(queue)) == max_batch_rows
        taken = [ticket.taken for ticket in large]
        assert max(taken) - min(taken) <= -(-max_batch_rows // 4)


def test_small_bulk_calls_fill_a_batch() -> None:
    queue: RowQueue[Ticket] = RowQueue(max_batch_rows=64, max_rows=1000, max_bytes=1 << 40)
    for _ in range(100):
        queue.admit(Ticket(1, bulk=True))
    assert [part.rows for part in gather(queue)] == [1] * 64


def test_a_large_call_has_a_quarter_of_a_batch_beside_small_ones_and_all_of_it_alone() -> None:
    queue, (large, _) = queue_of(100, 3, max_batch_rows=8)
    assert [part.rows for part in gather(queue)] == [3, 2]
    assert [part.rows for part in gather(queue)] == [8]
    assert large.taken == 10


def test_the_queue_admits_again_once_there_is_room() -> None:
    queue: RowQueue[Ticket] = RowQueue(max_batch_rows=4, max_rows=10, max_bytes=1 << 40)
    first = Ticket(10)
    queue.admit(first)
    with pytest.raises(Overloaded):
        queue.admit(Ticket(1))
    queue.withdraw(first)
    queue.admit(Ticket(10))
    gather(queue)
    queue.admit(Ticket(4))
    with pytest.raises(Overloaded):
        queue.admit(Ticket(1))


def test_a_call_that_is_no_longer_wanted_frees_its_place_without_a_row_being_taken() -> None:
    queue, (gone, large, stays) = queue_of(3, 50, 2)
    slices = queue.gather(lambda ticket: ticket is stays)
    assert [part.ticket for part in slices] == [stays]
    assert (gone.taken, large.taken, queue.rows) == (0, 0, 0)


def test_the_batches_until_an_answer_count_what_waits_before_it() -> None:
    queue, _ = queue_of(8, 3, max_batch_rows=8)
    assert queue.batches_until(Ticket(5)) == 2
    assert queue.batches_until(Ticket(6)) == 3
    assert queue.batches_until(Ticket(6, bulk=True)) == 3
    assert queue.batches_until(Ticket(100)) == 14


def test_a_batch_of_one_row_has_a_wait_too() -> None:
    queue, _ = queue_of(2, max_batch_rows=1)
    assert queue.batches_until(Ticket(1)) == 1
