"""The life of model versions, LOADING -> READY -> UNLOADING -> UNAVAILABLE.

`reconcile` brings what is served to what is desired, and loads before it unloads, so that a model that answers does
so all the time. No transition has an await in its middle, so calls see the state before it or the state after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from latentserve_server.errors import DeviceError, LatentServeError, StoreFailure, is_passing
from latentserve_server.model.served_model import Footprint, Identity, ServedModel
from latentserve_server.repository.model import Model, Plan
from latentserve_server.repository.version import LeasedModel, ModelVersion, State

_logger = logging.getLogger(__name__)

Fetch = Callable[[str, int, str], Awaitable[Path]]
"""A local directory with the bundle of a name, a version and its manifest's digest."""

Load = Callable[[str, int, Path], Awaitable[ServedModel]]
"""Makes a ready model of a name, a version and a bundle's directory."""


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

    def __init__(self, fetch: Fetch, load: Load, observer: LifecycleObserver, timeout: float) -> None:
        """To fetch and load a version may take `timeout` seconds."""
        self._timeout = timeout
        self._fetch = fetch
        self._load = load
        self._observer = observer
        self._closing: dict[asyncio.Task[None], LeasedModel] = {}

    def announce(self, model: Model) -> None:
        """Show the versions as they were found, and as LOADING what `reconcile` is going to load."""
        for entry in model:
            self._tell(entry)
        for entry in model.plan().load:
            self._begin_loading(entry)

    async def reconcile(self, model: Model, *, starting: bool = False) -> None:
        """Load what is desired and not served, move the aliases, unload what is served and not desired.

        Raises:
            DeviceError: while `starting`, a graph does not run on the device.
        """
        plan = model.plan()
        self._move_aliases(model, plan)
        while plan.load:
            await self.open(model, plan.load[0], starting=starting)
            plan = model.plan()  # where a load fails, the policy may choose another version
            self._move_aliases(model, plan)
        for entry in plan.unload:
            self.retire(model, entry, model.why_unwanted(entry))
        for entry in model:
            self._forget_if_gone(model, entry)

    async def open(self, model: Model, entry: ModelVersion, *, starting: bool = False) -> None:
        """Load what the entry's directory holds. Where that fails, what is served stays, and the entry says why.

        Raises:
            DeviceError: while `starting`, a graph does not run on the device.
        """
        self._begin_loading(entry)
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
            self._serve(model, entry, served)

    def retire(self, model: Model, entry: ModelVersion, reason: str) -> None:
        """Let a READY version take no more calls, and close it after its last one."""
        leased = entry.retire(reason)
        self._tell(entry)
        _logger.info("unloading %s version %d: %s", entry.name, entry.version, entry.reason, extra=_fields(entry))
        self._close_after_last_call(model, entry, leased)

    async def closed(self, name: str, version: int) -> None:
        """Wait until the models of a version that were retired are closed; they are, too, if nobody waits any more."""
        identities = {task: leased.model.identity for task, leased in self._closing.items()}
        tasks = [task for task, one in identities.items() if (one.name, one.version) == (name, version)]
        await asyncio.gather(*map(asyncio.shield, tasks))

    async def close(self) -> None:
        """Close what was retired, whether or not calls still hold leases on it."""
        for leased in self._closing.values():
            leased.revoke()
        await asyncio.gather(*self._closing)

    async def _make(self, entry: ModelVersion) -> ServedModel:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                directory = await self._fetch(entry.name, entry.version, entry.digest)
                return await self._load(entry.name, entry.version, directory)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreFailure(f"it was not loaded within {self._timeout:g} s") from error

    def _begin_loading(self, entry: ModelVersion) -> None:
        if entry.state in (State.UNAVAILABLE, State.UNLOADING):  # a READY version answers while its successor loads
            entry.become(State.LOADING)
            self._tell(entry)

    def _serve(self, model: Model, entry: ModelVersion, served: ServedModel) -> None:
        before = entry.serve(served)
        if before is None:
            self._tell(entry)
        else:
            self._close_after_last_call(model, entry, before)
        self._observer.load_ended(entry.name, succeeded=True)
        self._observer.model_opened(served.identity, served.footprints)
        fields = _fields(entry) | {"digest": entry.digest}
        _logger.info("%s version %d is ready", entry.name, entry.version, extra=fields)

    def _fail(self, entry: ModelVersion, reason: str, *, may_pass: bool) -> None:
        entry.fail(reason, now=asyncio.get_running_loop().time(), may_pass=may_pass)
        self._observer.load_ended(entry.name, succeeded=False)
        if entry.leased is None:
            entry.become(State.UNAVAILABLE, reason)
            self._tell(entry)

    def _close_after_last_call(self, model: Model, entry: ModelVersion, leased: LeasedModel) -> None:
        entry.begin_leaving()
        self._observer.model_retired(leased.model.identity)
        task = asyncio.get_running_loop().create_task(self._close(model, entry, leased))
        self._closing[task] = leased
        task.add_done_callback(self._closing.pop)

    async def _close(self, model: Model, entry: ModelVersion, leased: LeasedModel) -> None:
        await leased.close()
        entry.end_leaving()
        fields = _fields(entry) | {"digest": leased.model.identity.digest}
        _logger.info("a model of %s version %d is closed", entry.name, entry.version, extra=fields)
        if entry.leaving or entry.leased is not None:
            return
        self._observer.version_closed(entry.name, entry.version)
        if entry.state is State.UNLOADING:
            entry.become(State.UNAVAILABLE, entry.reason)
            self._tell(entry)
        self._forget_if_gone(model, entry)

    def _forget_if_gone(self, model: Model, entry: ModelVersion) -> None:
        if entry.state is State.UNAVAILABLE and not entry.exists and not entry.leaving:
            model.forget(entry)
            self._observer.state_changed(entry.name, entry.version, None)

    def _move_aliases(self, model: Model, plan: Plan) -> None:
        for alias, version in model.move_aliases(plan):
            fields = {"model": model.name, "version": version, "alias": alias}
            _logger.info("alias %s of %s points to version %d", alias, model.name, version, extra=fields)

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
