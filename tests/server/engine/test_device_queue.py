"""Slots on one device: whose is next, how fair that is, and many threads that want them at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from held_graph import BACKSTOP_SECONDS
from hypothesis import given
from hypothesis import strategies as st

from latentserve_server.engine.device import Account, DeviceQueue, EngineThread, FairOrder

Lengths = st.lists(st.floats(0.001, 50), min_size=15, max_size=15)


def serve(order: FairOrder, seconds: float) -> Account:
    """Give the next slot, and let its account want another one before it ends."""
    claim = order.grant()
    order.claim(claim.account)
    order.end(claim, seconds)
    return claim.account


@given(st.lists(Lengths, min_size=2, max_size=4))
def test_two_that_always_want_the_device_differ_by_a_turn_of_each(lengths: list[list[float]]) -> None:
    order, used, longest = FairOrder(), [0.0] * len(lengths), [max(one) for one in lengths]
    accounts = [Account() for _ in lengths]
    for account in accounts:
        order.claim(account)
    for _ in range(10):
        claim = order.grant()
        who = accounts.index(claim.account)
        seconds = lengths[who].pop()
        order.end(claim, seconds)
        order.claim(claim.account)
        used[who] += seconds
        for i, one in enumerate(used):
            for j, other in enumerate(used):
                assert one - other <= longest[i] + longest[j] + 1e-9


def test_the_one_with_short_turns_has_as_much_of_the_device_as_the_one_with_long_turns() -> None:
    order, heavy, light = FairOrder(), Account(), Account()
    order.claim(heavy)
    order.claim(light)
    slots = []
    for _ in range(102):
        claim = order.grant()
        order.end(claim, 50.0 if claim.account is heavy else 1.0)
        order.claim(claim.account)
        slots.append(claim.account)
    assert slots.count(heavy) == 2
    assert slots[:2] == [heavy, light], "those who have had the same go in the order in which they came"


@pytest.mark.parametrize("idle", [False, True], ids=["a busy device", "an idle device"])
def test_a_newcomer_and_one_who_was_away_have_no_credit(idle: bool) -> None:
    order, steady, away = FairOrder(), Account(), Account()
    order.claim(away)
    order.end(order.grant(), 1.0)
    order.claim(steady)
    for _ in range(100):
        claim = order.grant()
        if not idle:
            order.claim(steady)
        order.end(claim, 1.0)
        if idle:
            order.claim(steady)
    for account in (away, Account()):
        order.claim(account)
    following = [serve(order, 1.0) for _ in range(30)]
    assert 9 <= following.count(steady) <= 11


@given(st.integers(1, 3), st.lists(st.integers(0, 4), max_size=40))
def test_every_claim_is_granted_once(at_once: int, wanting: list[int]) -> None:
    order, accounts = FairOrder(), [Account() for _ in range(5)]
    claims = {order.claim(accounts[who]) for who in set(wanting)}
    granted = []
    while len(order):
        having = [order.grant() for _ in range(min(at_once, len(order)))]
        granted += having
        for claim in having:
            order.end(claim, 1.0)
    assert len(granted) == len(claims)
    assert set(granted) == claims


@pytest.mark.parametrize("at_once", [1, 2])
def test_threads_have_the_device_as_many_at_a_time_as_are_let(at_once: int) -> None:
    slots, lock, having, most = DeviceQueue(at_once), threading.Lock(), 0, 0
    gate = threading.Barrier(8)

    def use() -> int:
        nonlocal having, most
        account = Account()
        gate.wait(BACKSTOP_SECONDS)
        for _ in range(200):
            with slots.slot(account):
                with lock:
                    having += 1
                    most = max(most, having)
                with lock:
                    having -= 1
        return 200

    with ThreadPoolExecutor(8) as threads:
        served = [threads.submit(use) for _ in range(8)]
        assert sum(one.result(BACKSTOP_SECONDS) for one in served) == 1600
    assert 1 <= most <= at_once
    assert slots.waiting == 0


def test_without_a_bound_nobody_waits() -> None:
    slots, all_there = DeviceQueue(None), threading.Barrier(5)

    def meet() -> int:
        with slots.slot(Account()):
            return all_there.wait(BACKSTOP_SECONDS)

    with ThreadPoolExecutor(5) as threads:
        met = [one.result(BACKSTOP_SECONDS) for one in [threads.submit(meet) for _ in range(5)]]
    assert sorted(met) == [0, 1, 2, 3, 4], "all five had a slot at once, and each met the others"
    assert slots.waiting == 0


def test_a_turn_that_fails_is_over() -> None:
    slots = DeviceQueue(1)
    with pytest.raises(ZeroDivisionError), slots.slot(Account()):
        raise ZeroDivisionError
    with slots.slot(Account()):
        assert slots.waiting == 0


def test_an_engine_thread_takes_a_turn_for_each_piece_of_work_and_none_for_what_takes_its_own() -> None:
    slots = DeviceQueue(1)
    thread = EngineThread("engine", slots)
    with slots.slot(Account()):
        assert thread.submit_alone(lambda: "loading").result(BACKSTOP_SECONDS) == "loading"
        waits = thread.submit(lambda: "ran")
        while not slots.waiting:
            pass
        assert not waits.done()
        thread.shutdown(wait=False)
    assert waits.result(BACKSTOP_SECONDS) == "ran"
    with pytest.raises(RuntimeError):
        thread.submit(lambda: "too late")
