"""The arithmetic of what a caller may have, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentserve_server.access.allowance import Allowance, Allowances, Limits, Pace
from latentserve_server.errors import OverLimit

RATES = st.floats(0.01, 1e6)
ASKED = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5000)), min_size=1, max_size=60)
"""Pauses in seconds, and costs."""


@given(rate=RATES, asked=ASKED)
def test_what_goes_within_any_time_is_bounded(rate: float, asked: list[tuple[float, int]]) -> None:
    pace, now, gone = Pace(), 1e5, list[tuple[float, int]]()
    for pause, cost in asked:
        now += pause
        if not pace.wait(cost, rate, now):
            pace.take(cost, rate, now)
            gone.append((now, cost))
    burst = max(1.0, rate)
    for first in range(len(gone)):
        total = 0
        for when, cost in gone[first:]:
            total += cost
            assert total <= (rate * (when - gone[first][0]) + max(burst, cost)) * (1 + 1e-6) + 1e-6


@given(rate=RATES, asked=ASKED, cost=st.integers(1, 5000))
def test_what_waits_for_as_long_as_it_is_told_may_go(rate: float, asked: list[tuple[float, int]], cost: int) -> None:
    pace, now = Pace(), 1e5
    for pause, taken in asked:
        now += pause
        pace.take(taken, rate, now)
    wait = pace.wait(cost, rate, now)
    assert pace.wait(cost, rate, now + wait) <= 1e-6 * (1 + wait)
    if wait:
        assert pace.wait(cost, rate, now + 0.9 * wait) > 0


@given(rate=RATES, costs=st.lists(st.integers(1, 5000), min_size=20, max_size=60))
def test_who_comes_as_told_has_the_whole_rate(rate: float, costs: list[int]) -> None:
    pace, now = Pace(), 1e5
    for cost in costs:
        now += pace.wait(cost, rate, now)
        pace.take(cost, rate, now)
    assert rate * (now - 1e5) <= sum(costs) * (1 + 1e-6) + 1e-3 * rate


def test_a_rate_of_zero_is_no_bound() -> None:
    pace = Pace()
    for _ in range(100):
        assert not pace.wait(10**9, 0.0, 0.0)
        pace.take(10**9, 0.0, 0.0)


@given(most=st.integers(1, 100), rows=st.lists(st.integers(1, 150), max_size=30))
def test_rows_in_flight_are_bounded_but_for_a_single_call(most: int, rows: list[int]) -> None:
    allowance, inside = Allowance(lambda _: None), list[int]()
    allowance.limit(Limits(rows_in_flight=most), Limits())
    for count in rows:
        if inside and sum(inside) + count > most:
            with pytest.raises(OverLimit):
                allowance.check_rows(count)
            allowance.leave(inside.pop())
        else:
            allowance.check_rows(count)
            allowance.enter(count)
            inside.append(count)
        assert sum(inside) <= most or len(inside) == 1


@given(most=st.integers(1, 20), leaves=st.lists(st.booleans(), max_size=60))
def test_calls_in_flight_are_bounded(most: int, leaves: list[bool]) -> None:
    allowance, inside = Allowance(lambda _: None), 0
    allowance.limit(Limits(calls_in_flight=most), Limits())
    for leave in leaves:
        if leave and inside:
            allowance.leave_place()
            inside -= 1
        elif inside == most:
            with pytest.raises(OverLimit, match=f"the caller may have {most} calls in flight"):
                allowance.check_place()
        else:
            allowance.check_place()
            allowance.take_place()
            inside += 1


def test_a_token_says_more_than_the_default_and_zero_is_no_bound() -> None:
    default = Limits(1.0, 2.0, 3, 4)
    assert Limits().over(default) == default
    assert Limits(0.0, None, 0, None).over(default) == Limits(0.0, 2.0, 0, 4)
    assert Limits(None, 5.0, None, 0).over(default) == Limits(1.0, 5.0, 3, 0)


def test_callers_that_are_idle_are_forgotten_and_others_are_not() -> None:
    known = Allowances(Limits(calls_per_second=0.001), lambda _: None)
    known.of("spent").begin_call()
    (busy := known.of("busy")).take_place()
    for number in range(5000):
        known.of(f"idle-{number}")
    with pytest.raises(OverLimit):
        known.of("spent").begin_call()
    assert known.of("busy") is busy
    assert len(known) < 3000
