"""The library that saved a model: brought in when it is asked for, quiet, and its errors in a sentence."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latentserve_training.errors import ConfigError, ExportError, TrainingError
from latentserve_training.export.silence import silence


def load_library(name: str, module: str = "") -> Any:
    """The library's package, or a module of it, which has no types.

    Raises:
        ConfigError: it is not installed, or not whole.
    """
    try:
        with silence():
            return importlib.import_module(module or name)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name
        problem = f"the package {error.name} is not installed" if absent else f"not importable: {first_line(error)}"
        extra = f"pip install 'latentserve-training[{name}]'"
        raise ConfigError(f"--from {name}: {problem}; the extra brings it: {extra}") from error


@contextlib.contextmanager
def at_work(failure: str) -> Iterator[None]:
    """While entered, a library may do as it likes: it is silent, and what it raises is an error of ours.

    Raises:
        ExportError: the library raised something; the message is `failure` and the first line of that.
    """
    try:
        with silence():
            yield
    except (TrainingError, MemoryError):
        raise
    except Exception as error:  # a library's errors are of any kind
        raise ExportError(f"{failure}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_settings(folder: Path, file: str, saved_by: str) -> dict[str, Any]:
    """The JSON file of settings in the folder that `saved_by` writes.

    Raises:
        ConfigError: there is no such folder, or no such mapping in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: not a folder; it must be one that {saved_by} wrote")
    path = folder / file
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: there is no {file}; it must be a folder that {saved_by} wrote") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {first_line(error)}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: holds no mapping of settings")
    return settings
