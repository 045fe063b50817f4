"""What callers may have: calls and rows a second, and calls and rows in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from latentserve_server.errors import OverLimit

_BURST_SECONDS = 1.0
"""For so long a caller may have saved up what it did not use."""
_MANY = 1024
"""Allowances that may lie idle until somebody looks for those."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may have; None: what others have by default, 0: as much as there is."""

    calls_per_second: float | None = None
    rows_per_second: float | None = None
    rows_in_flight: int | None = None
    calls_in_flight: int | None = None

    @property
    def bound_something(self) -> bool:
        """Whether any of them is a bound."""
        return any((self.calls_per_second, self.rows_per_second, self.rows_in_flight, self.calls_in_flight))

    def over(self, default: Limits) -> Limits:
        """These, and the default's where they say nothing."""
        calls, rows = self.calls_per_second, self.rows_per_second
        rows_in_flight, calls_in_flight = self.rows_in_flight, self.calls_in_flight
        return Limits(
            default.calls_per_second if calls is None else calls,
            default.rows_per_second if rows is None else rows,
            default.rows_in_flight if rows_in_flight is None else rows_in_flight,
            default.calls_in_flight if calls_in_flight is None else calls_in_flight,
        )


UNSTATED = Limits()
"""The default's."""


class Pace:
    """A token bucket that holds what comes in a second, at least one: in T seconds it lets rate * T + burst through.

    Something larger than the bucket goes when that is full, and is paid off afterwards; then the bound is rate * T and
    its size.
    """

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        self._full_at = 0.0

    def wait(self, cost: float, rate: float, now: float) -> float:
        """Seconds until something of this cost may go; 0: it may. A rate of 0 is no bound."""
        if not rate:
            return 0.0
        burst = max(1.0, rate * _BURST_SECONDS)
        return max(0.0, self._full_at - now - (burst - min(cost, burst)) / rate)

    def take(self, cost: float, rate: float, now: float) -> None:
        """It goes."""
        if rate:
            self._full_at = max(self._full_at, now) + cost / rate

    def is_full(self, now: float) -> bool:
        """Whether it is as if nothing had ever gone."""
        return self._full_at <= now


class Allowance:
    """What one caller has, and may have; by it the queues tell callers apart, too."""

    __slots__ = ("_calls", "_calls_in_flight", "_freed", "_limits", "_refused", "_rows", "_rows_in_flight", "stated")

    def __init__(self, refused: Callable[[str], None]) -> None:
        """`refused` is told of every refusal, by one of few words."""
        self._refused = refused
        self._calls, self._rows = Pace(), Pace()
        self._calls_in_flight = self._rows_in_flight = 0
        self._freed: asyncio.Event | None = None
        self._limits = self.stated = UNSTATED

    def limit(self, stated: Limits, default: Limits) -> None:
        """Hold it to these limits from now on."""
        self.stated, self._limits = stated, stated.over(default)

    def begin_call(self) -> None:
        """Count a call.

        Raises:
            OverLimit: there are too many.
        """
        if rate := self._limits.calls_per_second:
            now = time.monotonic()
            if wait := self._calls.wait(1, rate, now):
                raise self._refusal("calls", f"{rate:g} calls a second", wait)
            self._calls.take(1, rate, now)

    def check_place(self) -> None:
        """Hold one more call under way to the limits.

        Raises:
            OverLimit: there are too many.
        """
        most = self._limits.calls_in_flight
        if most and self._calls_in_flight >= most:
            raise self._refusal("calls_in_flight", f"{most} calls in flight", 0.0)

    def take_place(self) -> None:
        """Count a call as under way."""
        self._calls_in_flight += 1

    def leave_place(self) -> None:
        """Count a call as under way no longer."""
        self._calls_in_flight -= 1

    def check_rows(self, rows: int) -> None:
        """Hold so many rows to the limits.

        Raises:
            OverLimit: there are too many.
        """
        most, rate = self._limits.rows_in_flight, self._limits.rows_per_second
        if most and self._rows_in_flight and self._rows_in_flight + rows > most:
            raise self._refusal("rows_in_flight", f"{most} rows in flight", 0.0)
        if rate and (wait := self._rows.wait(rows, rate, time.monotonic())):
            raise self._refusal("rows", f"{rate:g} rows a second", wait)

    async def wait_for_rows(self, rows: int) -> None:
        """Return once so many rows are within the limits."""
        while True:
            most, rate = self._limits.rows_in_flight, self._limits.rows_per_second or 0.0
            if most and self._rows_in_flight and self._rows_in_flight + rows > most:
                self._freed = self._freed or asyncio.Event()
                await self._freed.wait()
            elif wait := self._rows.wait(rows, rate, time.monotonic()):
                await asyncio.sleep(wait)
            else:
                return

    def enter(self, rows: int) -> None:
        """Count rows that go to a graph."""
        self._rows_in_flight += rows
        if rate := self._limits.rows_per_second:
            self._rows.take(rows, rate, time.monotonic())

    def leave(self, rows: int) -> None:
        """Count rows as in flight no longer."""
        self._rows_in_flight -= rows
        if self._freed is not None:
            self._freed.set()
            self._freed = None

    def is_idle(self, now: float) -> bool:
        """Whether a new one would be the same."""
        under_way = self._calls_in_flight or self._rows_in_flight
        return not under_way and self._calls.is_full(now) and self._rows.is_full(now)

    def _refusal(self, reason: str, most: str, wait: float) -> OverLimit:
        self._refused(reason)
        return OverLimit(f"the caller may have {most}", retry_after=wait)


class Allowances:
    """The allowances of all callers, by their names."""

    def __init__(self, default: Limits, refused: Callable[[str], None]) -> None:
        """`default` holds for callers of whom nothing else is stated; `refused` is told of every refusal."""
        self._default = default
        self._refused = refused
        self._known: dict[str, Allowance] = {}
        self._many = _MANY

    def __len__(self) -> int:
        return len(self._known)

    def of(self, name: str, stated: Limits = UNSTATED) -> Allowance:
        """That of a caller, who is held to the limits that are stated now."""
        allowance = self._known.get(name)
        if allowance is None:
            if len(self._known) > self._many:
                self._forget_idle()
            allowance = self._known[name] = Allowance(self._refused)
            allowance.limit(stated, self._default)
        elif allowance.stated is not stated:
            allowance.limit(stated, self._default)
        return allowance

    def _forget_idle(self) -> None:
        now = time.monotonic()
        self._known = {name: one for name, one in self._known.items() if not one.is_idle(now)}
        self._many = max(_MANY, 2 * len(self._known))
