"""One model's versions and aliases: the plan of what is to change, and the change."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from latentserve_server.errors import ModelNotFound, ModelNotReady
from latentserve_server.repository.policy import VersionPolicy
from latentserve_server.repository.store import AliasFile, ModelDirectory
from latentserve_server.repository.version import Lifecycle, ModelVersion, State

_logger = logging.getLogger(__name__)

_MAX_REASONS = 3
"""Versions that are explained in one error, at most."""


@dataclass(frozen=True, slots=True)
class StuckAlias:
    """An alias that cannot move to the version that it is to name."""

    model: str
    alias: str
    answering: int | None
    """The version that it names so far; None where it names none."""
    wanted: int
    why: str
    """Why that version does not answer."""

    def __str__(self) -> str:
        stands = "names no version yet" if self.answering is None else f"stays at version {self.answering}"
        return f"alias {self.alias!r} of {self.model} {stands}: it is to name version {self.wanted}: {self.why}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to change of one model."""

    aliases: Mapping[str, int]
    """Where the aliases point, as far as the versions that are READY allow."""
    load: Sequence[ModelVersion]
    """Versions whose directories hold something desired that is not served yet, the highest first."""
    unload: Sequence[ModelVersion]
    """READY versions that are not desired any more."""


class Model:
    """The versions and aliases of one model."""

    def __init__(self, name: str, policy: VersionPolicy) -> None:
        self.name = name
        self._policy = policy
        self._entries: dict[int, ModelVersion] = {}
        self._aliases: dict[str, int] = {}
        self._intended: dict[str, int] = {}  # an alias follows only once the version is READY
        self._aliases_digest = ""
        self._aliases_missing_since: float | None = None
        self._pinned: set[int] = set()
        self._withdrawn: set[int] = set()

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter([self._entries[version] for version in sorted(self._entries)])

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, version: int) -> ModelVersion:
        """The entry of a version.

        Raises:
            ModelNotFound: there is none.
        """
        if version not in self._entries:
            raise ModelNotFound(f"model {self.name!r} has no version {version}")
        return self._entries[version]

    def answering(self, version: int | None, alias: str | None) -> ModelVersion:
        """The READY entry that answers: of the version or the alias, else of the highest READY version.

        Raises:
            ModelNotFound: there is no such version or alias. ModelNotReady: there is, but it cannot answer now.
        """
        if alias is not None:
            version = self._follow(alias)
        entry = self.default if version is None else self.entry(version)
        if entry is None:
            raise ModelNotReady(self._why_none_answers())
        if entry.model is None:
            raise ModelNotReady(str(entry))
        return entry

    @property
    def default(self) -> ModelVersion | None:
        """The highest READY version."""
        highest: ModelVersion | None = None
        for entry in self._entries.values():
            if entry.model is not None and (highest is None or entry.version > highest.version):
                highest = entry
        return highest

    def aliases_of(self, version: int) -> list[str]:
        """The aliases that point to a version, in alphabetical order."""
        return sorted(alias for alias, target in self._aliases.items() if target == version)

    def aliases_in_the_way(self, version: int) -> list[str]:
        """The aliases that point to a version, or are to."""
        intended = (alias for alias, target in self._intended.items() if target == version)
        return sorted({*self.aliases_of(version), *intended})

    @property
    def intended_aliases(self) -> AliasFile:
        """The version that each alias is to name, and the digest of the file that says so, or said so first."""
        return AliasFile(dict(self._intended), self._aliases_digest)

    def observe(self, found: ModelDirectory | None, *, now: float, patience: float, retry: bool) -> None:
        """Note what a scan found at `now`; None where the model's directory is missing.

        What is missing is gone only when a scan finds it missing again after `patience` seconds.
        """
        for version, digest in found.digests.items() if found else ():
            if version not in self._entries:
                self._entries[version] = ModelVersion(
                    self.name, version, digest, self._unwanted, partial(self._entries.pop, version)
                )
            self._entries[version].observe(digest, now=now, retry=retry)
        if found and found.aliases is not None and found.aliases.digest not in ("", self._aliases_digest):
            self.set_aliases(found.aliases)
        self.find_missing(found, now=now, patience=patience)

    def find_missing(self, found: ModelDirectory | None, *, now: float, patience: float) -> None:
        """As `observe`, but for what is missing alone: nothing that is new or has changed is taken note of."""
        digests = found.digests if found else {}
        for entry in self:
            if entry.version not in digests:
                entry.miss(now, patience)
            elif entry.is_missing:
                entry.find()
            if not entry.exists:
                self._pinned.discard(entry.version)
                self._withdrawn.discard(entry.version)
        if not any(entry.exists for entry in self):
            self.set_aliases(AliasFile())
        elif found is None or found.aliases is not None:
            self._find_missing_aliases(found.aliases if found else None, now=now, patience=patience)

    @property
    def is_missing_something(self) -> bool:
        """Whether a version or the alias file is missing, and may come back."""
        return self._aliases_missing_since is not None or any(entry.is_missing for entry in self)

    def set_aliases(self, aliases: AliasFile) -> None:
        """Have these aliases and no others, until a scan finds another file than that of the digest."""
        self._intended, self._aliases_digest = dict(aliases.versions), aliases.digest
        self._aliases_missing_since = None

    def pin(self, version: int) -> bool:
        """Want the version, whatever the policy; returns whether that is new.

        Raises:
            ModelNotFound: there is no such version.
        """
        if self.entry(version).missing_since is not None:
            raise ModelNotFound(f"model {self.name!r} version {version} is not in its place any more")
        self._withdrawn.discard(version)
        is_new = version not in self._pinned
        self._pinned.add(version)
        return is_new

    def unpin(self, version: int) -> None:
        """Leave the version to the policy."""
        self._pinned.discard(version)

    def withdraw(self, version: int) -> None:
        """Want the version no more, whatever the policy.

        Raises:
            ModelNotFound: there is no such version.
        """
        entry = self.entry(version)
        self._pinned.discard(version)
        if entry.exists:
            self._withdrawn.add(version)
        entry.withdraw(self.why_unwanted(entry))

    def plan(self) -> Plan:
        """What is to change, so that the desired versions are served.

        Desired are those of the policy that are not broken, those that aliases name or are to name, and the pinned.
        """
        able = {entry.version for entry in self if entry.may_answer} - self._withdrawn
        chosen = set(sorted(able, reverse=True)[: self._policy.latest])
        ready = {entry.version for entry in self if entry.state is State.READY}
        wanted_by_name = {*self._intended.values(), *self._pinned}
        aliases = self._aliases_over(ready & (chosen | ((wanted_by_name | set(self._aliases.values())) & able)))
        desired = chosen | ((wanted_by_name | set(aliases.values())) & able)
        return Plan(
            aliases=aliases,
            load=[entry for entry in reversed(list(self)) if entry.version in desired and entry.needs_loading],
            unload=[entry for entry in self if entry.version in ready - desired],
        )

    def announce(self, lifecycle: Lifecycle) -> None:
        """Show the versions as they were found, and as LOADING what `reconcile` is going to load."""
        for entry in self:
            lifecycle.announce(entry)
        for entry in self.plan().load:
            lifecycle.begin_loading(entry)

    async def reconcile(self, lifecycle: Lifecycle, *, starting: bool = False) -> None:
        """Load what is desired and not served, move the aliases, unload what is served and not desired.

        In this order, so that a model that answers does so all the time.

        Raises:
            DeviceError: while `starting`, a graph does not run on the device.
        """
        plan = self.plan()
        self._move_aliases(plan)
        while plan.load:
            await lifecycle.open(plan.load[0], starting=starting)
            plan = self.plan()  # where a load fails, the policy may choose another version
            self._move_aliases(plan)
        for entry in plan.unload:
            lifecycle.retire(entry, self.why_unwanted(entry))
        for entry in self:
            lifecycle.forget_if_gone(entry)

    def try_again(self) -> None:
        """Let versions whose failure may pass be loaded once more."""
        for entry in self:
            if entry.waits_for_retry:
                entry.try_again()

    def ask(self) -> None:
        """Log again every version that cannot be loaded."""
        for entry in self:
            entry.ask()

    def why_unwanted(self, entry: ModelVersion) -> str:
        """Why an entry is not wanted, in one line."""
        if not entry.exists:
            return "its directory is gone"
        return "unloaded on request" if entry.version in self._withdrawn else self._unwanted

    def broken(self) -> list[ModelVersion]:
        """The versions that would be desired if they could be loaded, in ascending order."""
        there = {entry.version for entry in self if entry.exists} - self._withdrawn
        desired = {*sorted(there, reverse=True)[: self._policy.latest], *self._intended.values(), *self._pinned}
        return [entry for entry in self if entry.is_broken and entry.version in desired & there]

    def stuck_aliases(self) -> list[StuckAlias]:
        """The aliases that do not name the version that they are to name, in alphabetical order."""
        return [
            StuckAlias(self.name, alias, self._aliases.get(alias), version, self._why_not(version))
            for alias, version in sorted(self._intended.items())
            if self._aliases.get(alias) != version
        ]

    def _move_aliases(self, plan: Plan) -> None:
        """Point the aliases where the plan has them."""
        before, self._aliases = self._aliases, dict(plan.aliases)
        for alias, version in self._aliases.items():
            if before.get(alias) != version:
                fields = {"model": self.name, "version": version, "alias": alias}
                _logger.info("alias %s of %s points to version %d", alias, self.name, version, extra=fields)

    def _aliases_over(self, staying: set[int]) -> dict[str, int]:
        """Every alias at the version that it is to name, if that is READY and to stay; else where it is, likewise."""
        kept = {alias: version for alias, version in self._aliases.items() if version in staying}
        moved = {alias: version for alias, version in self._intended.items() if version in staying}
        return {alias: version for alias, version in (kept | moved).items() if alias in self._intended}

    def _find_missing_aliases(self, found: AliasFile | None, *, now: float, patience: float) -> None:
        since = now if self._aliases_missing_since is None else self._aliases_missing_since
        if (found and found.digest) or not self._aliases_digest:
            self._aliases_missing_since = None
        elif now - since >= patience:
            self.set_aliases(AliasFile())
        else:
            self._aliases_missing_since = since

    def _why_none_answers(self) -> str:
        highest = "; ".join(str(entry) for entry in list(self)[-_MAX_REASONS:])
        others = len(self) - _MAX_REASONS
        return f"{highest}; and {others} lower versions do not answer either" if others > 0 else highest

    @property
    def _unwanted(self) -> str:
        return f"the version policy {self._policy.text} does not want it"

    def _follow(self, alias: str) -> int:
        if alias in self._aliases:
            return self._aliases[alias]
        if alias not in self._intended:
            raise ModelNotFound(f"model {self.name!r} has no alias {alias!r}")
        version = self._intended[alias]
        raise ModelNotReady(f"alias {alias!r} of model {self.name!r} names version {version}: {self._why_not(version)}")

    def _why_not(self, version: int) -> str:
        return str(self._entries.get(version, "there is no such version"))
