"""Devices: how onnxruntime is set up on them, the fair queue for slots on one, and the threads that take slots."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np
import onnxruntime

from latentserve_server.blocking_calls import start_thread
from latentserve_server.engine.row_shares import RowShares
from latentserve_server.errors import DeviceError

P = ParamSpec("P")
T = TypeVar("T")


class Device(StrEnum):
    """The kinds of devices."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cpu:
    """The processors of this machine."""

    threads: int
    """Threads of one run."""
    portable: bool = False
    """Whether to leave out what sums in another order on another processor or with more threads: the layout of channels
    in blocks, kernels for SME, and threads within operators, in whose place `Engine` shares out the rows of a batch."""
    shares: RowShares = field(init=False, compare=False, repr=False)
    """The threads among which rows are shared out, of all graphs that run here."""
    device: ClassVar[Device] = Device.CPU
    provider: ClassVar[str] = "CPUExecutionProvider"
    index: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", RowShares(self.threads))  # a frozen dataclass has no other way

    def close(self) -> None:
        """Wait for rows under way and end the threads that graphs share."""
        self.shares.close()

    def session_options(self) -> onnxruntime.SessionOptions:
        """How sessions are opened."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if self.portable else self.threads
        options.inter_op_num_threads = 1
        if self.portable:  # one level up, channels are summed in blocks of 16 or of 8, as the processor likes it
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            # Arm's kernels for SME: with them a row has other bits alone than in company.
            options.add_session_config_entry("mlas.disable_kleidiai", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves the event loop
        # int8 weights beyond 7 bits become uint8: where there is no VNNI, sums of their products saturate otherwise.
        options.add_session_config_entry("session.x64quantprecision", "1")
        return options

    def provider_options(self) -> dict[str, str]:
        """What the execution provider is told, in onnxruntime's words."""
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cuda:
    """One NVIDIA GPU, of those that CUDA_VISIBLE_DEVICES leaves."""

    index: int = 0
    memory_limit_bytes: int = 0
    """Bytes of one session's arena on the device, at most; 0 for no limit."""
    tf32: bool = False
    """Whether float32 products may be rounded to 10 bits of mantissa, which tensor cores do faster."""
    graphs: bool = False
    """Whether runs of bound sizes are captured once as CUDA graphs and then replayed."""
    device: ClassVar[Device] = Device.CUDA
    provider: ClassVar[str] = "CUDAExecutionProvider"

    def session_options(self) -> onnxruntime.SessionOptions:
        """How sessions are opened; the processors only launch kernels."""
        return Cpu(threads=1).session_options()

    def provider_options(self) -> dict[str, str]:
        """What the execution provider is told, in onnxruntime's words: its page on the CUDA execution provider."""
        options = {
            "device_id": str(self.index),
            "cudnn_conv_algo_search": "HEURISTIC",  # the default tries every algorithm for every new shape
            "arena_extend_strategy": "kSameAsRequested",  # the default doubles the arena with every extension
            "use_tf32": "1" if self.tf32 else "0",
            "enable_cuda_graph": "1" if self.graphs else "0",
        }
        return options | ({"gpu_mem_limit": str(self.memory_limit_bytes)} if self.memory_limit_bytes else {})

    def close(self) -> None:
        """Nothing is left to do: what runs on the device ends with its sessions."""


Placement = Cpu | Cuda


def choose_placement(wanted: str, cpu: Cpu, cuda: Cuda) -> tuple[Placement, str]:
    """`cpu` or `cuda`, for "auto", "cpu" or "cuda", and why.

    Raises:
        DeviceError: "cuda" was asked for and does not work here.
    """
    if wanted == Device.CPU:
        return cpu, "asked for"
    problem = _cuda_problem(cuda)
    if problem is None:
        return cuda, "asked for" if wanted == Device.CUDA else "a CUDA device works"
    if wanted == Device.CUDA:
        raise DeviceError(f"--device cuda: {problem}")
    return cpu, problem


def runtime_version() -> str:
    """onnxruntime's version."""
    return str(onnxruntime.__version__)


def first_line(error: Exception) -> str:
    """What onnxruntime says, without the stack."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _cuda_problem(cuda: Cuda) -> str | None:
    """Why CUDA cannot be used, found by using it."""
    if cuda.provider not in onnxruntime.get_available_providers():
        return "this build of onnxruntime has no CUDA provider; install latentserve-server[gpu]"
    try:
        onnxruntime.preload_dlls()
        onnxruntime.OrtValue.ortvalue_from_shape_and_type([1], np.float32, cuda.device, cuda.index)
    except Exception as error:
        return f"device {cuda.index} of the CUDA provider does not work: {first_line(error)}"
    return None


class Account:
    """What one model has had of a device; it has or wants one slot at a time."""

    def __init__(self) -> None:
        self.end = 0.0
        """The tag at which its last slot ended."""


class Claim:
    """A slot that is wanted or had."""

    def __init__(self, account: Account, start: float, number: int) -> None:
        self.account = account
        self.start = start
        self.granted = threading.Event()
        self._order = start, number

    def __lt__(self, other: Claim) -> bool:
        return self._order < other._order


class FairOrder:
    """Whose slot is next. Knows no time but the seconds that it is told, and no threads.

    Start-time fair queuing (Goyal, Vin and Cheng 1996, "Start-time fair queuing: a scheduling algorithm for integrated
    services packet switching networks"), counted in seconds of the device: each slot gets a start tag, the end of its
    account's last slot or the tag of the slot that was granted last, whichever is later, and the least tag is next. So
    two accounts that both want the device all the time differ by no more than one slot of each, and one that did not
    want it saves nothing up.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: list[Claim] = []
        self.granted = 0
        """Slots that were granted and have not ended."""
        self._tag = 0.0
        self._last_end = 0.0

    def __len__(self) -> int:
        """Claims that wait."""
        return len(self._waiting)

    def claim(self, account: Account) -> Claim:
        """Let an account wait for a slot."""
        claim = Claim(account, max(self._tag, account.end), next(self._numbers))
        heapq.heappush(self._waiting, claim)
        return claim

    def grant(self) -> Claim:
        """Give the next slot to one that waits."""
        claim = heapq.heappop(self._waiting)
        self._tag = max(self._tag, claim.start)
        self.granted += 1
        return claim

    def end(self, claim: Claim, seconds: float) -> None:
        """Record that a granted slot was held for so many seconds."""
        claim.account.end = claim.start + seconds
        self._last_end = max(self._last_end, claim.account.end)
        self.granted -= 1
        if not self.granted and not self._waiting:
            self._tag = self._last_end  # a device that falls idle owes nothing to anybody


class DeviceQueue:
    """Grants slots on one device to threads that wait for them."""

    def __init__(self, at_once: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`at_once` slots are had at a time, or any number; `clock` gives seconds, and measures them."""
        self._at_once = at_once
        self._clock = clock
        self._lock = threading.Lock()
        self._order = FairOrder()

    @property
    def is_bounded(self) -> bool:
        """Whether a slot may have to be waited for."""
        return self._at_once is not None

    @property
    def waiting(self) -> int:
        """Threads that wait for a slot now."""
        with self._lock:
            return len(self._order)

    @contextmanager
    def slot(self, account: Account) -> Iterator[None]:
        """The device, for the block. Waits for it."""
        with self._lock:
            claim = self._order.claim(account)
            self._grant()
        claim.granted.wait()
        began = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - began
            with self._lock:
                self._order.end(claim, seconds)
                self._grant()

    def _grant(self) -> None:
        while len(self._order) and (self._at_once is None or self._order.granted < self._at_once):
            self._order.grant().granted.set()


class EngineThread(Executor):
    """The thread on which a model's graphs run, but for short runs on the event loop.

    It runs what is submitted in order, each piece in a slot of its own.
    """

    def __init__(self, name: str, slots: DeviceQueue) -> None:
        """`slots` are those of the device that the thread's graphs run on."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._slots = slots
        self._account = Account()
        self._lock = threading.Lock()
        self._under_way = 0
        self.is_idle = not slots.is_bounded
        """Whether nothing that was submitted is under way, and the device has slots for all: then who submits may run
        something on its own thread."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` in a slot."""
        with self._lock:
            future = self._thread.submit(self._in_slot, lambda: work(*args, **kwargs))
            self._under_way += 1
            self.is_idle = False
        future.add_done_callback(self._ended)
        return future

    def submit_alone(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` without a slot: it takes slots itself where it needs the device.

        Raises:
            OSError: the thread cannot be started.
        """
        return start_thread(lambda: self._thread.submit(work, *args, **kwargs))

    def slot(self) -> AbstractContextManager[None]:
        """A slot, for work on this thread that was submitted without one."""
        return self._slots.slot(self._account)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and wait for what was submitted if `wait` says so."""
        self._thread.shutdown(wait, cancel_futures=cancel_futures)

    def _in_slot(self, work: Callable[[], T]) -> T:
        with self.slot():
            return work()

    def _ended(self, _: Future[Any]) -> None:
        with self._lock:
            self._under_way -= 1
            self.is_idle = not self._under_way and not self._slots.is_bounded
