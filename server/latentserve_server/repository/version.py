"""One version of a model: its directory, its state and its leases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from latentserve_server.model.served_model import ServedModel


class State(Enum):
    """Where a model version stands in its life."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    UNAVAILABLE = "unavailable"


_LONGEST_PAUSES = {True: 60.0, False: 600.0}
"""Seconds between two tries, at most: where what failed may pass by itself, and where somebody has to mend it."""

_NOT_LOADED = "what its directory now holds does not load: {}"

_NEXT = {
    State.LOADING: {State.READY, State.UNAVAILABLE},
    State.READY: {State.UNLOADING},
    State.UNLOADING: {State.LOADING, State.UNAVAILABLE},
    State.UNAVAILABLE: {State.LOADING},
}


@dataclass(slots=True)
class ModelVersion:
    """One version of one model."""

    name: str
    version: int
    digest: str
    """SHA-256 of the manifest on disk, in hexadecimal, as last seen; empty where there is none."""
    reason: str
    """Why the version is UNAVAILABLE or UNLOADING, or why a READY one is not what its directory now holds."""
    state: State = State.UNAVAILABLE
    leased: LeasedModel | None = None
    """What answers, while READY."""
    exists: bool = True
    """Whether the directory is there, or was until so lately that it may come back."""
    missing_since: float | None = None
    """When the directory was first found missing, in seconds of the event loop's clock; None while it is there."""
    failed_digest: str | None = None
    """The manifest that could not be loaded; it is tried again when it changes, when asked, or after a pause."""
    failures: int = 0
    """How often that manifest could not be loaded since someone asked for it."""
    retry_at: float = 0.0
    """When a scan may try it again, in seconds of the event loop's clock."""
    is_transient: bool = False
    """Whether what failed may pass by itself, so that it is tried again."""
    last_failure: str = ""
    """What was last logged of a load that failed."""
    leaving: int = 0
    """Models that were opened from the directory and answer their last calls."""

    @property
    def model(self) -> ServedModel | None:
        """The model, while READY."""
        return self.leased.model if self.leased else None

    @property
    def may_answer(self) -> bool:
        """Whether the version is READY, or may become so."""
        return self.exists and (self.leased is not None or self._may_load)

    @property
    def is_missing(self) -> bool:
        """Whether the directory is missing, and may come back."""
        return self.exists and self.missing_since is not None

    @property
    def waits_for_retry(self) -> bool:
        """Whether it could not be loaded for what may pass by itself."""
        return self.exists and self.is_transient and self.failed_digest is not None

    @property
    def needs_loading(self) -> bool:
        """Whether the directory holds something that is not served and was not found broken."""
        served = self.model.identity.digest if self.model else None
        return self.exists and self._may_load and self.digest != served

    def become(self, state: State, reason: str = "") -> None:
        """Take the next step of the life."""
        assert state in _NEXT[self.state], f"a version that is {self.state.value} cannot become {state.value}"
        self.state, self.reason = state, reason

    def serve(self, model: ServedModel) -> LeasedModel | None:
        """Let the model answer from now on; returns the one that answered before, which is to be closed."""
        before, self.leased = self.leased, LeasedModel(model)
        self.digest, self.is_transient, self.failures = model.identity.digest, False, 0
        if before is None:
            self.become(State.READY)
        else:
            self.reason = ""
        return before

    def retire(self, reason: str) -> LeasedModel:
        """Let a READY version take no more calls; returns the model that answered them, which is to be closed."""
        leased, self.leased = self.leased, None
        assert leased is not None
        self.become(State.UNLOADING, reason)
        return leased

    def begin_leaving(self) -> None:
        """Note that a model answers its last calls."""
        self.leaving += 1

    def end_leaving(self) -> None:
        """Note that such a model is closed."""
        self.leaving -= 1

    def withdraw(self, reason: str) -> None:
        """Note why nobody wants the version any more. A READY one says so once it is retired."""
        if self.state is not State.READY:
            self.reason = reason

    def observe(self, digest: str, *, now: float, retry: bool) -> None:
        """Note what a scan found at `now`; with `retry`, a manifest that failed is tried again without a pause."""
        if digest != self.digest:
            self.digest, self.failures, self.is_transient = digest, 0, False
        if retry or digest != self.failed_digest or now >= self.retry_at:
            self.try_again()
        self.find()

    def find(self) -> None:
        """Note that the directory is there."""
        self.exists, self.missing_since = True, None
        if self.state is State.READY:
            self.reason = "" if self.failed_digest is None else _NOT_LOADED.format(self.last_failure)

    def miss(self, now: float, patience: float) -> None:
        """Note at `now` that the directory is missing; it is gone for good after `patience` seconds."""
        self.missing_since = now if self.missing_since is None else self.missing_since
        if now - self.missing_since >= patience:
            self.exists = False
        elif self.state is State.READY:
            self.reason = f"its directory is not there; unloaded where that is still so after {patience:g} s"

    def try_again(self) -> None:
        """Let what could not be loaded be loaded once more."""
        self.failed_digest = None

    def ask(self) -> None:
        """Log the next failure again, because someone asked."""
        self.failures = 0

    def fail(self, reason: str, *, now: float, may_pass: bool) -> None:
        """Note at `now` that what the directory holds could not be loaded. The pauses until the next try double."""
        self.failed_digest, self.is_transient, self.last_failure = self.digest, may_pass, reason
        self.retry_at = now + min(2.0 ** min(self.failures, 16), _LONGEST_PAUSES[may_pass])
        self.failures += 1
        if self.state is State.READY:
            self.reason = _NOT_LOADED.format(reason)

    @property
    def _may_load(self) -> bool:
        return self.missing_since is None and self.failed_digest != self.digest

    def __str__(self) -> str:
        text = f"model {self.name!r} version {self.version} is {self.state.value}"
        return f"{text}: {self.reason}" if self.reason else text


class LeasedModel:
    """Counts the leases of one model, on its event loop."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def lease(self) -> Iterator[ServedModel]:
        """The model, which does not close within the block."""
        self._leases += 1
        self._unused.clear()
        try:
            yield self.model
        finally:
            self._leases -= 1
            if not self._leases:
                self._unused.set()

    async def close(self) -> None:
        """Wait until the last lease has ended, then close the model. No lease may begin any more."""
        await self._unused.wait()
        await self.model.close()

    def revoke(self) -> None:
        """Let `close` wait no longer: the calls that hold leases have been given up."""
        self._unused.set()
