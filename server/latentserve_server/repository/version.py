"""One version of a model: its state, its leases, and how it is loaded, retired and closed.

Its life is LOADING -> READY -> UNLOADING -> UNAVAILABLE. No transition has an await in its middle, so calls see the
state before it or the state after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from latentserve_server.blocking_calls import BlockingCalls
from latentserve_server.bundle.loader import Loader
from latentserve_server.errors import DeviceError, LatentServeError, StoreFailure, is_passing
from latentserve_server.model.identity import Identity
from latentserve_server.model.served_model import Footprint, ServedModel
from latentserve_server.repository.store import ModelStore

_logger = logging.getLogger(__name__)


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
    forget: Callable[[], object]
    """Drops the version from its model, once `is_gone`."""
    state: State = State.UNAVAILABLE
    model: ServedModel | None = None
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
    def may_answer(self) -> bool:
        """Whether the version is READY, or may become so."""
        return self.exists and (self.model is not None or self._may_load)

    @property
    def is_missing(self) -> bool:
        """Whether the directory is missing, and may come back."""
        return self.exists and self.missing_since is not None

    @property
    def is_gone(self) -> bool:
        """Whether the directory is gone, and nothing that was opened from it is left."""
        return self.state is State.UNAVAILABLE and not self.exists and not self.leaving

    @property
    def waits_for_retry(self) -> bool:
        """Whether it could not be loaded for what may pass by itself."""
        return self.exists and self.is_transient and self.failed_digest is not None

    @property
    def is_broken(self) -> bool:
        """Whether what the directory holds could not be loaded."""
        return self.exists and self.missing_since is None and self.failed_digest is not None

    @property
    def needs_loading(self) -> bool:
        """Whether the directory holds something that is not served and was not found broken."""
        served = self.model.identity.digest if self.model else None
        return self.exists and self._may_load and self.digest != served

    def become(self, state: State, reason: str = "") -> None:
        """Take the next step of the life."""
        assert state in _NEXT[self.state], f"a version that is {self.state.value} cannot become {state.value}"
        self.state, self.reason = state, reason

    def serve(self, model: ServedModel) -> ServedModel | None:
        """Let the model answer from now on; returns the one that answered before, which is to be closed."""
        before, self.model = self.model, model
        self.digest, self.is_transient, self.failures = model.identity.digest, False, 0
        if before is None:
            self.become(State.READY)
        else:
            self.reason = ""
        return before

    def retire(self, reason: str) -> ServedModel:
        """Let a READY version take no more calls; returns the model that answered them, which is to be closed."""
        model, self.model = self.model, None
        assert model is not None
        self.become(State.UNLOADING, reason)
        return model

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


class LifecycleObserver(Protocol):
    """What is told of the life of every version, on the event loop."""

    def state_changed(self, model: str, version: int, state: State | None) -> None:
        """The version is in the state; None where it is gone."""
        ...

    def load_ended(self, model: str, *, succeeded: bool) -> None:
        """An attempt to load a version came to an end."""
        ...

    def model_opened(self, identity: Identity, footprints: Mapping[str, Footprint]) -> None:
        """A model answers calls now; `footprints` are those of its graphs, by the names of their roles."""
        ...

    def model_retired(self, identity: Identity) -> None:
        """A model takes no more calls."""
        ...

    def version_closed(self, model: str, version: int) -> None:
        """Nothing of the version is open any more."""
        ...


class Lifecycle:
    """Opens and closes the served versions of models."""

    def __init__(self, store: ModelStore, loader: Loader, observer: LifecycleObserver, timeout: float) -> None:
        """To fetch a version from the store and load it may take `timeout` seconds."""
        self._timeout = timeout
        self._store = store
        self._loader = loader
        self._fetches = BlockingCalls()  # the limit of a load is theirs, too
        self._observer = observer
        self._closing: dict[asyncio.Task[None], ServedModel] = {}

    def announce(self, entry: ModelVersion) -> None:
        """Show a version as it was found."""
        self._tell(entry)

    def begin_loading(self, entry: ModelVersion) -> None:
        """Show as LOADING what is going to be loaded. A READY version answers while its successor loads."""
        if entry.state in (State.UNAVAILABLE, State.UNLOADING):
            entry.become(State.LOADING)
            self._tell(entry)

    async def open(self, entry: ModelVersion, *, starting: bool = False) -> None:
        """Load what the entry's directory holds. Where that fails, what is served stays, and the entry says why.

        Raises:
            DeviceError: while `starting`, a graph does not run on the device.
        """
        self.begin_loading(entry)
        level = logging.DEBUG if entry.failures else logging.INFO
        _logger.log(level, "loading %s version %d", entry.name, entry.version, extra=_fields(entry))
        try:
            served = await self._make(entry)
        except (LatentServeError, OSError, MemoryError) as error:
            reason, may_pass = _reason(error), _may_pass(error)
            is_known = entry.failures and reason == entry.last_failure
            level = logging.DEBUG if is_known else logging.ERROR
            unavailable = "%s version %d is unavailable: %s"
            _logger.log(level, unavailable, entry.name, entry.version, reason, extra=_fields(entry))
            self._fail(entry, reason, may_pass=may_pass)
            if starting and isinstance(error, DeviceError):
                raise
        except Exception as error:
            _logger.exception("%s version %d is unavailable", entry.name, entry.version, extra=_fields(entry))
            self._fail(entry, f"internal error: {error}", may_pass=False)
        else:
            self._serve(entry, served)

    def retire(self, entry: ModelVersion, reason: str) -> None:
        """Let a READY version take no more calls, and close it after its last one."""
        model = entry.retire(reason)
        self._tell(entry)
        _logger.info("unloading %s version %d: %s", entry.name, entry.version, entry.reason, extra=_fields(entry))
        self._close_after_last_call(entry, model)

    def forget_if_gone(self, entry: ModelVersion) -> None:
        """Drop a version whose directory is gone, unless it still answers calls; then it is dropped after the last."""
        if entry.is_gone:
            entry.forget()
            self._observer.state_changed(entry.name, entry.version, None)

    async def closed(self, name: str, version: int) -> None:
        """Wait until the models of a version that were retired are closed; they are, too, if nobody waits any more."""
        identities = {task: model.identity for task, model in self._closing.items()}
        tasks = [task for task, one in identities.items() if (one.name, one.version) == (name, version)]
        await asyncio.gather(*map(asyncio.shield, tasks))

    async def close(self) -> None:
        """Close what was retired, whether or not calls still hold leases on it."""
        for model in self._closing.values():
            model.revoke()
        await asyncio.gather(*self._closing)

    async def _make(self, entry: ModelVersion) -> ServedModel:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                name, version = entry.name, entry.version
                fetch = partial(self._store.fetch, name, version, entry.digest)
                directory = await self._fetches.make(f"fetch {name} {version}", fetch)
                return await self._loader.load(name, version, directory)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreFailure(f"it was not loaded within {self._timeout:g} s") from error

    def _serve(self, entry: ModelVersion, served: ServedModel) -> None:
        before = entry.serve(served)
        if before is None:
            self._tell(entry)
        else:
            self._close_after_last_call(entry, before)
        self._observer.load_ended(entry.name, succeeded=True)
        self._observer.model_opened(served.identity, served.footprints)
        fields = _fields(entry) | {"digest": entry.digest}
        _logger.info("%s version %d is ready", entry.name, entry.version, extra=fields)

    def _fail(self, entry: ModelVersion, reason: str, *, may_pass: bool) -> None:
        entry.fail(reason, now=asyncio.get_running_loop().time(), may_pass=may_pass)
        self._observer.load_ended(entry.name, succeeded=False)
        if entry.model is None:
            entry.become(State.UNAVAILABLE, reason)
            self._tell(entry)

    def _close_after_last_call(self, entry: ModelVersion, model: ServedModel) -> None:
        entry.begin_leaving()
        self._observer.model_retired(model.identity)
        task = asyncio.get_running_loop().create_task(self._close(entry, model))
        self._closing[task] = model
        task.add_done_callback(self._closing.pop)

    async def _close(self, entry: ModelVersion, model: ServedModel) -> None:
        await model.close()
        entry.end_leaving()
        fields = _fields(entry) | {"digest": model.identity.digest}
        _logger.info("a model of %s version %d is closed", entry.name, entry.version, extra=fields)
        if entry.leaving or entry.model is not None:
            return
        self._observer.version_closed(entry.name, entry.version)
        if entry.state is State.UNLOADING:
            entry.become(State.UNAVAILABLE, entry.reason)
            self._tell(entry)
        self.forget_if_gone(entry)

    def _tell(self, entry: ModelVersion) -> None:
        self._observer.state_changed(entry.name, entry.version, entry.state)


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, StoreFailure | MemoryError) or (isinstance(error, OSError) and is_passing(error))


def _fields(entry: ModelVersion) -> dict[str, str | int]:
    return {"model": entry.name, "version": entry.version}
