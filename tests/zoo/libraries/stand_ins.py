"""Empty packages in the place of those that a library imports and its networks never use: loggers, clouds, commands."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Anything:
    """Takes any arguments and, as a decorator, gives back what it is put on."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None: ...

    def __call__(self, decorated: Any) -> Any:
        return decorated


class _Empty(ModuleType):
    """A module that has a class of any name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Anything,), {})


class _Finder(MetaPathFinder, Loader):
    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages

    def find_spec(self, name: str, *_where: Any) -> ModuleSpec | None:
        absent = any(name == package or name.startswith(f"{package}.") for package in self._packages)
        return ModuleSpec(name, self, is_package=True) if absent else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


def stand_in_for(*packages: str) -> None:
    """Let these packages be imported from now on, with nothing in them that works."""
    sys.meta_path.insert(0, _Finder(packages))
