"""The repository: every model, and the queue of the commands that change what is served.

All changes are commands of one queue, so nothing is locked. What is wanted follows from the store, the version
policy, the aliases and the requests for single versions; the lifecycle brings what is served there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from latentserve_server.blocking_calls import BlockingCalls, on_thread
from latentserve_server.errors import (
    ChangeRefused,
    ConfigError,
    LatentServeError,
    ModelNotFound,
    ShuttingDown,
    StartupError,
)
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.model import Model
from latentserve_server.repository.policy import VersionPolicy
from latentserve_server.repository.scanner import Absences, BrokenVersions, RepositoryObserver, Scanner, StuckAliases
from latentserve_server.repository.store import Catalog, ModelStore, store_alias
from latentserve_server.repository.version import Lifecycle, ModelVersion, State

_logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Between two tries of what may pass by itself."""


class Repository:
    """Serves the versions of a store. Made and used on one event loop."""

    def __init__(
        self,
        store: ModelStore,
        policy: VersionPolicy,
        lifecycle: Lifecycle,
        observer: RepositoryObserver,
        changed: Callable[[], Awaitable[None]],
        *,
        removal_delay: float,
        require_models: bool,
        scan_timeout: float,
        loads_at_once: int,
    ) -> None:
        """`changed` is awaited after whatever may have changed what is served, once `open` has returned.

        What is missing from the store for `removal_delay` seconds is gone. A store without a model is waited for, or
        an error with `require_models`. A scan, or a change of an alias, may take `scan_timeout` seconds. `open` loads
        so many models at once; later changes, which calls are answered beside, load one after another.
        """
        self._store = store
        self._policy = policy
        self._lifecycle = lifecycle
        self._changed = changed
        self._models: dict[str, Model] = {}
        self._scanner = Scanner(store, observer, scan_timeout)
        self._alias_calls = BlockingCalls(scan_timeout)
        self._removal_delay = removal_delay
        self._require_models = require_models
        self._loads_at_once = loads_at_once
        self._waits_for_first = False
        self._absences = Absences(removal_delay, observer)
        self._broken_versions = BrokenVersions(observer)
        self._stuck_aliases = StuckAliases(observer)
        self._rescan_waits = False
        self._unsettled = asyncio.Event()  # set while a scan or a load that failed is due for a retry
        self._commands = CommandQueue()

    async def open(self) -> None:
        """Find and load what is wanted; a broken version becomes UNAVAILABLE and the others are served.

        Raises:
            ConfigError: the store cannot be read, or holds no bundle and must. DeviceError: a graph does not run on the
                device.
            StartupError: versions are wanted, and not one could be loaded.
        """
        try:
            await on_thread("open", self._store.open)
        except OSError as error:  # there can be no thread
            raise ConfigError(f"{self._store.place}: {error.strerror}") from error
        self._observe(await self._scanner.first())
        entries = self.entries()
        if not entries and self._require_models:
            raise ConfigError(f"{self._store.place}: no model found; bundles lie in <name>/<version>/manifest.json")
        self._waits_for_first = not entries
        await self._reconcile(starting=True, at_once=self._loads_at_once)
        if not entries:
            where = "<name>/<version>/manifest.json"
            _logger.warning("%s: no model is there yet; the server waits for the first, %s", self._store.place, where)
        elif not self.is_ready:
            reasons = "; ".join(f"{entry.name}/{entry.version}: {entry.reason}" for entry in entries)
            if any(entry.failed_digest is not None for entry in entries):
                raise StartupError(f"{self._store.place}: no model can be served: {reasons}")
            _logger.warning("nothing is served until an alias or a Load names a version: %s", reasons)
        self._commands.start()

    async def watch(self, interval: float) -> None:
        """Follow the store until cancelled: scan it every `interval` seconds, or never where that is 0.

        What may pass by itself, as a lack of memory, of files to be opened or of an answer from a store, is tried again
        after pauses that double. A version that failed for another reason is tried again only by a scan: a server that
        does not poll does not try a half-copied one again and again.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._try_again())
            if interval:
                group.create_task(self._poll(interval))

    async def close(self) -> None:
        """Close every model, whether or not calls hold leases on it; give up what is being loaded."""
        await self._commands.close()
        for model in self._models.values():
            for entry in model:
                if entry.model is not None:
                    self._lifecycle.retire(entry, "the server is stopping")
        await asyncio.gather(self._lifecycle.close(), self._close_store())

    async def _close_store(self) -> None:
        with suppress(OSError):  # there is no further thread
            await on_thread("end of store", self._store.close)

    def entries(self) -> list[ModelVersion]:
        """Every version, ordered by name, then version."""
        return [entry for name in sorted(self._models) for entry in self._models[name]]

    @property
    def is_ready(self) -> bool:
        """Whether any version answers calls."""
        return any(entry.model is not None for entry in self.entries())

    def is_default(self, entry: ModelVersion) -> bool:
        """Whether the entry answers calls that name no version."""
        return entry is self._models[entry.name].default

    def aliases_of(self, name: str, version: int) -> list[str]:
        """The aliases that point to a version, in alphabetical order."""
        return self._models[name].aliases_of(version) if name in self else []

    def __contains__(self, name: str) -> bool:
        model = self._models.get(name)
        return model is not None and len(model) > 0

    def get(self, name: str, version: int | None = None, alias: str | None = None) -> ServedModel:
        """The model of the version or alias, else of the highest READY version.

        A block around it is a lease, within which it stays open; without one it may be described, and not called.

        Raises:
            ModelNotFound: there is no such name, version or alias. ModelNotReady: there is, but it cannot answer now.
        """
        model = self._model(name).answering(version, alias).model
        assert model is not None
        return model

    async def rescan(self, *, by_order: bool) -> list[str]:
        """Follow the store. Returns what made no sense, and which aliases cannot move, in lines.

        Versions that failed are tried again after pauses that double. With `by_order` they are at once, and what is
        missing is gone at once.

        Raises:
            ChangeRefused: the store cannot be read, or is empty; what is served stays.
        """
        if by_order:
            return await self._commands.put(lambda: self._asked_rescan(patience=0))
        return await self._commands.put(lambda: self._rescan(retry=False))

    def request_rescan(self) -> None:
        """Follow the store, with another try for versions that failed, once the changes under way are made."""
        if not self._rescan_waits:
            with suppress(ShuttingDown):
                self._commands.put(self._requested_rescan)
                self._rescan_waits = True

    async def load(self, name: str, version: int) -> ModelVersion:
        """Make a version READY and keep it so, whatever the policy.

        Raises:
            ModelNotFound: there is no such version. ChangeRefused: it cannot be loaded; what is served stays.
        """
        return await self._commands.put(lambda: self._load(name, version))

    async def unload(self, name: str, version: int) -> None:
        """Take a version out of service, whatever the policy; returns once its model is closed.

        Raises:
            ModelNotFound: there is no such version. ChangeRefused: an alias points to it.
        """
        await self._commands.put(lambda: self._unload(name, version))
        await self._lifecycle.closed(name, version)

    async def set_alias(self, name: str, alias: str, version: int | None) -> bool:
        """Point an alias to a READY version, or delete it with None; returns whether that was stored.

        Raises:
            ModelNotFound: there is no such version or alias. ChangeRefused: the version is not READY, or the alias
                file is damaged. StoreFailure: the store does not answer in time.
        """
        return await self._commands.put(lambda: self._set_alias(name, alias, version))

    async def _poll(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            with suppress(Exception):  # it is in the log, and the next scan may find it mended
                await self.rescan(by_order=False)

    async def _try_again(self) -> None:
        while True:
            await self._unsettled.wait()
            pause = _FIRST_PAUSE_SECONDS
            while self._unsettled.is_set():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                with suppress(Exception):  # it is in the log
                    await self._commands.put(self._retry)

    async def _requested_rescan(self) -> None:
        self._rescan_waits = False  # what changes from now on may need another one
        await self._asked_rescan(patience=self._removal_delay)

    async def _asked_rescan(self, *, patience: float) -> list[str]:
        for model in self._models.values():
            model.ask()
        return await self._rescan(retry=True, patience=patience)

    async def _retry(self) -> None:
        """Repeat what `_unsettled` stands for: the scan that failed, or else the loads."""
        if self._scanner.owed is not None:
            await self._rescan(retry=self._scanner.owed)
            return
        for model in self._models.values():
            model.try_again()
        if any(model.is_missing_something for model in self._models.values()):
            with suppress(ChangeRefused):  # it is in the log
                await self._find_missing()
        await self._reconcile()

    async def _rescan(self, *, retry: bool, patience: float | None = None) -> list[str]:
        catalog = await self._scan(retry=retry, patience=patience)
        await self._reconcile()
        return [*catalog.problems, *self._stuck_aliases.problems]

    async def _load(self, name: str, version: int) -> ModelVersion:
        await self._scan(retry=False)
        model = self._model(name)
        entry = model.entry(version)
        is_new = model.pin(version)
        entry.try_again()
        entry.ask()
        if entry.needs_loading:
            await self._lifecycle.open(entry)
        if entry.failed_digest is not None and is_new:
            model.unpin(version)
        await self._reconcile()
        if entry.failed_digest is not None:
            raise ChangeRefused(f"model {name!r} version {version} cannot be loaded: {entry.reason}")
        return entry

    async def _unload(self, name: str, version: int) -> None:
        model = self._model(name)
        if aliases := model.aliases_in_the_way(version):
            raise ChangeRefused(f"model {name!r} version {version} has the alias {', '.join(aliases)}; move it first")
        model.withdraw(version)
        await self._reconcile()

    async def _set_alias(self, name: str, alias: str, version: int | None) -> bool:
        model = self._model(name)
        if version is None and alias not in model.intended_aliases.versions:
            raise ModelNotFound(f"model {name!r} has no alias {alias!r}")
        if version is not None and model.entry(version).state is not State.READY:
            raise ChangeRefused(f"alias {alias!r} cannot move: {model.entry(version)}")
        known = model.intended_aliases
        change = partial(store_alias, self._store, name, known, alias, version)
        stored, aliases = await self._alias_calls.make(f"aliases of {name}", change)
        model.set_aliases(aliases)
        await self._reconcile()
        return stored

    async def _scan(self, *, retry: bool, patience: float | None = None) -> Catalog:
        retry = retry or bool(self._scanner.owed)
        try:
            catalog = await self._scanner.take(retry=retry, had_models=bool(self._models))
        except ChangeRefused:
            self._note_unsettled()
            raise
        self._observe(catalog, retry=retry, patience=patience)
        return catalog

    def _observe(self, catalog: Catalog, *, retry: bool = False, patience: float | None = None) -> None:
        patience, now = self._removal_delay if patience is None else patience, asyncio.get_running_loop().time()
        for name in catalog.models.keys() - self._models.keys():
            self._models[name] = Model(name, self._policy)
        for name in self._models.keys() - catalog.unreadable:
            self._models[name].observe(catalog.models.get(name), now=now, patience=patience, retry=retry)

    async def _find_missing(self) -> None:
        """Scan for missing versions only: without polling, a new one may still be half copied."""
        catalog = await self._scanner.take(retry=None, had_models=True)
        now = asyncio.get_running_loop().time()
        for name in self._models.keys() - catalog.unreadable:
            self._models[name].find_missing(catalog.models.get(name), now=now, patience=self._removal_delay)

    async def _reconcile(self, *, starting: bool = False, at_once: int = 1) -> None:
        models = [self._models[name] for name in sorted(self._models)]
        for model in models:
            model.announce(self._lifecycle)
        turns = asyncio.Semaphore(at_once)

        async def reconcile(model: Model) -> None:
            async with turns:
                await model.reconcile(self._lifecycle, starting=starting)

        try:
            async with asyncio.TaskGroup() as group:
                for model in models:
                    group.create_task(reconcile(model))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._models = {name: model for name, model in self._models.items() if len(model)}
        self._absences.tell(self.entries())
        self._broken_versions.tell(entry for model in models for entry in model.broken())
        self._stuck_aliases.tell(stuck for model in models for stuck in model.stuck_aliases())
        self._note_unsettled()
        if not starting:
            await self._changed()

    def _note_unsettled(self) -> None:
        entries = self.entries()
        if self._waits_for_first:
            may_come = not entries or any(entry.failed_digest is not None for entry in entries)
            self._waits_for_first = may_come and not self.is_ready
        if self._waits_for_first:
            self._scanner.owed = True
        waits = any(entry.waits_for_retry for entry in entries)
        if waits or self._scanner.owed is not None or any(each.is_missing_something for each in self._models.values()):
            self._unsettled.set()
        else:
            self._unsettled.clear()

    def _model(self, name: str) -> Model:
        model = self._models.get(name)
        if not model:
            raise ModelNotFound(f"model {name!r} is not in the repository")
        return model


class CommandQueue:
    """Commands that one task runs, one after another. They wait from the beginning, until the queue is started."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to run commands."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, command: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Let the command run when its turn comes, whether or not anyone awaits the result.

        Raises:
            ShuttingDown: the queue was closed; also for commands that still wait then.
        """
        if self._closed:
            raise ShuttingDown("the server is stopping")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_note_failure)
        self._waiting.put_nowait((command, future))
        return future

    async def close(self) -> None:
        """Cancel the running command and refuse those that wait."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._waiting.empty():
            _, future = self._waiting.get_nowait()
            _settle(future, ShuttingDown("the server is stopping"))

    async def _run(self) -> None:
        while True:
            command, future = await self._waiting.get()
            try:
                result = await command()
            except asyncio.CancelledError:
                _settle(future, ShuttingDown("the server is stopping"))
                raise
            except Exception as error:
                _settle(future, error)
            else:
                if not future.done():
                    future.set_result(result)


def _settle(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _note_failure(future: asyncio.Future[Any]) -> None:
    """Log an error that is a mistake of ours: whoever put the command may be gone."""
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, LatentServeError):
        _logger.error("a command failed", exc_info=error)
