"""Replicas that are replaced, killed and added under load, and what their callers notice of it.

python -m e2e.rollout measures all of it in some minutes, and prints what docs/operations.md shows.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from replicas import Replica, Replicas, replicas
from steady_callers import Attempt, Callers, steady_callers
from tiny_bundle import TinyModel

from latentserve_client import CHANNEL_OPTIONS, AsyncClient

CALLERS = 8
REPLICAS = 3
CLIENTS = 12
"""Those that are spread over replicas; each has connections of its own."""
WINDOW_CALLS = 600
"""Calls after which it is counted who has answered them."""
GRACEFUL = ("--drain-delay=1", "--drain-timeout=2", "--max-connection-age=0")


@dataclass(frozen=True)
class Replaced:
    """What was seen while replicas were replaced, one after another."""

    callers: Callers
    statuses: list[int]
    """What the old ones exited with."""
    chunks: int
    """Chunks of one stream, which went on from replica to replica."""


async def replace(repository: Path, rounds: int) -> Replaced:
    """Replace the oldest of three replicas by a new one, again and again, under calls and one endless stream."""
    statuses, chunks = [], 0

    async def read(client: AsyncClient, callers: Callers) -> None:
        nonlocal chunks
        async for _ in client.stream_samples("slow", 1 << 40, chunk_rows=4):
            chunks += 1
            await callers.answered(4)

    async with under_load(repository, *GRACEFUL) as (pods, client, callers), asyncio.TaskGroup() as group:
        reading = group.create_task(read(client, callers))
        for _ in range(rounds):
            await pods.add()
            statuses.append(await pods.retire(pods.ready[0]))
        await callers.answered(2 * CALLERS)
        reading.cancel()
    return Replaced(callers, statuses, chunks)


@dataclass(frozen=True)
class Crashed:
    """What was seen while replicas were killed, one after another."""

    callers: Callers
    lost: list[list[Attempt]]
    """The calls that failed, for each replica."""

    def most_in_a_row(self) -> int:
        """The most calls that one caller lost one after another."""
        rows, most = Counter[int](), 0
        for attempt in self.callers.attempts:
            rows[attempt.caller] = rows[attempt.caller] + 1 if attempt.error is not None else 0
            most = max(most, rows[attempt.caller])
        return most

    def most_of_one_caller(self) -> int:
        """The most calls that one caller lost with one replica."""
        return max(max(Counter(one.caller for one in lost).values(), default=0) for lost in self.lost)

    def all_were_answered_at_last(self) -> bool:
        """Whether the last call of every caller was answered."""
        last = {attempt.caller: attempt.error for attempt in self.callers.attempts}
        return not any(last.values())


async def crash(repository: Path, rounds: int, *, retries: bool) -> Crashed:
    """Kill the oldest of three replicas and start a new one, again and again; `retries` are those of the client."""
    lost = []
    async with under_load(repository, *GRACEFUL, retries=retries) as (pods, _, callers):
        for _ in range(rounds):
            before = len(callers.failed)
            await pods.kill(pods.ready[0])
            await callers.answered(4 * CALLERS)
            lost.append(callers.failed[before:])
            await pods.add()
    return Crashed(callers, lost)


@dataclass(frozen=True)
class Window:
    """Who answered calls in some span of time."""

    seconds: float
    """When it began, after the last replica had been added; before that it is negative."""
    calls: list[int]
    """Those of each replica, the oldest first."""


async def spread(repository: Path, age: float, patience: float) -> list[Window]:
    """Add a third replica under twelve clients with connections of some age; the last window is the settled one.

    It is settled when the new replica answers a quarter of the calls, or after `patience` seconds.
    """
    flags = (f"--max-connection-age={age}", "--max-connection-grace=10")
    async with replicas(REPLICAS - 1, repository, *flags) as pods, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(own_client(pods.target)) for _ in range(CLIENTS)]
        callers = await stack.enter_async_context(steady_callers(*clients))
        await callers.answered(WINDOW_CALLS)
        began = time.monotonic()
        calls = [*await answered_by(pods.ready, callers), 0]
        await pods.add()
        added, settled = time.monotonic(), False
        windows = [Window(began - added, calls)]
        while not settled:
            seconds = time.monotonic() - added
            settled = 4 * windows[-1].calls[-1] >= WINDOW_CALLS or seconds > patience
            windows.append(Window(seconds, await answered_by(pods.ready, callers)))
        assert not callers.failed
    return windows


async def answered_by(pods: list[Replica], callers: Callers) -> list[int]:
    """The calls that each replica answers of the next ones."""
    before = [await pod.answered() for pod in pods]
    await callers.answered(WINDOW_CALLS)
    return [await pod.answered() - count for pod, count in zip(pods, before, strict=True)]


@asynccontextmanager
async def under_load(
    repository: Path, *flags: str, retries: bool = True
) -> AsyncIterator[tuple[Replicas, AsyncClient, Callers]]:
    """Three replicas, a client of them all, and eight who call with it."""
    async with replicas(REPLICAS, repository, *flags) as pods, AsyncExitStack() as stack:
        client = AsyncClient(pods.target) if retries else own_client(pods.target, ("grpc.enable_retries", 0))
        await stack.enter_async_context(client)
        callers = await stack.enter_async_context(steady_callers(*[client] * CALLERS))
        await callers.answered(4 * CALLERS)
        yield pods, client, callers


def own_client(target: str, *options: tuple[str, int]) -> AsyncClient:
    """A client that shares no connection with others of this process."""
    own = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1), *options)
    return AsyncClient(channel=grpc.aio.insecure_channel(target, options=own))


def write_model(repository: Path) -> None:
    """The model that is called: its decoder works as long as a latent says."""
    TinyModel(slow=True).write(repository / "slow" / "1")


async def measure(repository: Path, rounds: int = 20) -> AsyncIterator[str]:
    """Everything, with the figures of many rounds, in lines to be read."""
    replaced = await replace(repository, rounds)
    yield f"{rounds} replicas replaced: {summary(replaced.callers)}; exit statuses {sorted({*replaced.statuses})};"
    yield f"  one stream went on all the time, {replaced.chunks} chunks"
    for retries in (True, False):
        crashed = await crash(repository, rounds, retries=retries)
        lost = [len(calls) for calls in crashed.lost]
        yield f"{rounds} replicas killed, retries {'on' if retries else 'off'}: {summary(crashed.callers)};"
        yield f"  {min(lost)} to {max(lost)} with each, at most {crashed.most_of_one_caller()} of one caller, and"
        yield f"  {crashed.most_in_a_row()} in a row; all answered at last: {crashed.all_were_answered_at_last()}"
    for age, patience in ((0.0, 40.0), (20.0, 60.0)):
        yield f"a third replica, connections {f'of {age:g} s' if age else 'without an age'}: calls by replica"
        for window in await spread(repository, age, patience):
            yield f"  from {window.seconds:5.1f} s: {window.calls}"


def summary(callers: Callers) -> str:
    """Calls, failures and the longest time, in words."""
    return f"{len(callers.attempts)} calls, {len(callers.failed)} failed, the longest took {callers.longest:.2f} s"


async def main() -> None:
    """Print each line as soon as it is known."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        async for line in measure(Path(folder)):
            print(line, flush=True)  # noqa: T201 - what the command is for


if __name__ == "__main__":
    asyncio.run(main())
