"""One version of one model: what its directory holds, what answers for it, and where it stands in its life."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from latentserve_server.lease import LeasedModel
from latentserve_server.served_model import ServedModel


class State(Enum):
    """Where a model version stands in its life."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    UNAVAILABLE = "unavailable"


_NEXT = {
    State.LOADING: {State.READY, State.UNAVAILABLE},
    State.READY: {State.UNLOADING},
    State.UNLOADING: {State.LOADING, State.UNAVAILABLE},
    State.UNAVAILABLE: {State.LOADING},
}


@dataclass(slots=True)
class Entry:
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
    """Whether the directory is there."""
    failed_digest: str | None = None
    """The manifest that could not be loaded; it is not tried again until it changes or someone asks for it."""
    is_failure_passing: bool = False
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
        return self.exists and (self.leased is not None or self.failed_digest != self.digest)

    @property
    def waits_for_retry(self) -> bool:
        """Whether it could not be loaded for what may pass by itself."""
        return self.exists and self.is_failure_passing and self.failed_digest is not None

    @property
    def needs_loading(self) -> bool:
        """Whether the directory holds something that is not served and was not found broken."""
        served = self.model.identity.digest if self.model else None
        return self.exists and self.digest not in (served, self.failed_digest)

    def become(self, state: State, reason: str = "") -> None:
        """Take the next step of the life."""
        assert state in _NEXT[self.state], f"a version that is {self.state.value} cannot become {state.value}"
        self.state, self.reason = state, reason

    def see(self, digest: str, *, retry: bool) -> None:
        """Note what a scan found; with `retry`, a manifest that failed is worth another try."""
        self.is_failure_passing = self.is_failure_passing and digest == self.digest
        self.exists, self.digest = True, digest
        if retry or self.is_failure_passing or digest != self.failed_digest:
            self.failed_digest = None
        if self.state is State.READY and self.failed_digest is None:
            self.reason = ""

    def __str__(self) -> str:
        text = f"model {self.name!r} version {self.version} is {self.state.value}"
        return f"{text}: {self.reason}" if self.reason else text
