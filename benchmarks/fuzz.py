"""Requests that are wrong in every way that chance finds, against a running server; each must get an answer of ours.

    python benchmarks/fuzz.py --repository demo/models --calls 100000

Between them, requests that are right are sent again and again, and their replies compared with the first ones, bit for
bit. Prints how many calls of each method ended with which status; exits with 1 where a call had no answer, one that
blames the server, or one in other words than ours, where a reply was another one, where the log has an error, or where
the server does not end as it should. `--seed` repeats a run's requests.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from fuzz_requests import Case, cases_of
from mutation import mutated
from server_process import ServerProcess, serving

_ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
_FOREIGN = re.compile(r"Traceback|Error:|NoneType|<class|object at 0x|Exception|\bself\b")
"""What Python or C++ would say."""
_WORDLESS = "/grpc.health."
"""gRPC's own service, which answers NOT_FOUND for a service that it does not know, and nothing more."""
_LONGEST_MESSAGE, _MOST_READ, _SECONDS = 2_000, 4, 60.0
_RIGHT_SHARE = 0.1


@dataclass
class Outcome:
    """What became of the calls."""

    ended: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    messages: set[str] = field(default_factory=set)
    right: int = 0

    def judge(self, case: Case, code: grpc.StatusCode, message: str, sent: bytes) -> None:
        """Count an answer, and what is wrong with it."""
        self.ended[case.method, code.name] += 1
        fault = ""
        if code not in _ALLOWED:
            fault = f"{code.name}: {message}"
        elif code is not grpc.StatusCode.OK and not message and not case.method.startswith(_WORDLESS):
            fault = f"{code.name} without a word"
        elif _FOREIGN.search(message) or not message.isprintable() or len(message) > _LONGEST_MESSAGE:
            fault = f"words that are not ours: {message[:300]!r}"
        if fault:
            self.faults[f"{case.method}: {fault}; request {sent[:200].hex()}"] += 1
        self.messages.add(re.sub(r"[\d.]+", "#", message)[:120])


class Fuzz:
    """Sends requests to one server."""

    def __init__(self, channel: grpc.aio.Channel, cases: list[Case], names: tuple[str, ...], seed: int) -> None:
        self._channel = channel
        self._cases = cases
        self._names = names
        self._choice = random.Random(seed)
        self._first: dict[int, bytes] = {}
        self._left = 0
        self.outcome = Outcome()

    async def run(self, calls: int, callers: int) -> None:
        """Make so many calls, so many at a time."""
        self._left = calls
        progress = asyncio.create_task(self._tell(calls))
        await asyncio.gather(*(self._caller() for _ in range(callers)))
        progress.cancel()

    async def _caller(self) -> None:
        while self._left > 0:
            self._left -= 1
            number = self._choice.randrange(len(self._cases))
            case = self._cases[number]
            if self._choice.random() < _RIGHT_SHARE:
                await self._ask_rightly(number, case)
            else:
                sent = mutated(case.request, self._choice, self._names)
                self.outcome.judge(case, *(await self._ask(case, sent))[:2], sent)

    async def _ask_rightly(self, number: int, case: Case) -> None:
        sent = case.request.SerializeToString()
        code, message, replies = await self._ask(case, sent)
        self.outcome.judge(case, code, message, sent)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return
        content = b"".join(map(case.content_of, replies))
        self.outcome.right += 1
        if code is not grpc.StatusCode.OK or self._first.setdefault(number, content) != content:
            self.outcome.faults[f"{case.method}: {code.name} {message}, or another reply, to a right request"] += 1

    async def _ask(self, case: Case, sent: bytes) -> tuple[grpc.StatusCode, str, list[bytes]]:
        replies: list[bytes] = []
        send: Any = self._channel.stream_stream(case.method)  # which, on the wire, is every kind of call
        call = send(iter([sent]), timeout=_SECONDS)
        try:
            async for reply in call:
                replies.append(reply)
                if len(replies) == _MOST_READ:
                    call.cancel()
                    return grpc.StatusCode.OK, "", replies
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or "", replies
        return grpc.StatusCode.OK, "", replies

    async def _tell(self, calls: int) -> None:
        while True:
            await asyncio.sleep(30.0)
            print(f"  {calls - self._left} of {calls} calls, {len(self.outcome.faults)} faults", flush=True)


def report(outcome: Outcome) -> None:
    """Print what became of the calls."""
    methods = sorted({method for method, _ in outcome.ended})
    for method in methods:
        codes = {code: count for (name, code), count in sorted(outcome.ended.items()) if name == method}
        print(f"  {method.rpartition('/')[2]:22} {', '.join(f'{code} {count}' for code, count in codes.items())}")
    print(f"{outcome.ended.total()} calls, {outcome.right} of them right, {len(outcome.messages)} different messages")
    for fault, count in outcome.faults.most_common(40):
        print(f"FAULT, {count} times: {fault}")


async def fuzz(arguments: argparse.Namespace, server: ServerProcess) -> Outcome:
    """All calls, and the outcome."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
        names, cases = await cases_of(channel)
        before, began = server.resident_mib(), time.monotonic()
        run = Fuzz(channel, cases, names, arguments.seed)
        await run.run(arguments.calls, arguments.callers)
        report(run.outcome)
        after = server.resident_mib()
        print(f"{time.monotonic() - began:.0f} s; memory {before:.0f} MiB before, {after:.0f} MiB after")
        return run.outcome


def main() -> int:
    """Start the server, call it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with serving(arguments.repository) as server:
        outcome = asyncio.run(fuzz(arguments, server))
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait()
        errors = [record for record in server.records() if record["level"] in ("ERROR", "CRITICAL")]
    print(f"server exit status {status}, {len(errors)} errors in its log", *errors[:5], sep="\n  ")
    return 1 if outcome.faults or status or errors else 0


if __name__ == "__main__":
    sys.exit(main())
