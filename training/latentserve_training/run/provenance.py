"""The git commit, the package versions and the time that something was made with."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from latentserve_training.errors import ExportError

_PACKAGES = ("lightning", "numpy", "onnx", "onnxscript", "torch")


def git_commit() -> str:
    """The commit of this package's source, with "-dirty" where it has been changed since; empty when unknown.

    It is unknown where the package is installed: a repository that lies around it is somebody else's.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()


def software() -> dict[str, str]:
    """The versions of Python and of the packages that take part."""
    import onnxruntime  # of two distributions, onnxruntime and onnxruntime-gpu, one is installed

    return {
        "python": platform.python_version(),
        "latentserve-training": version("latentserve-training"),
        **{package: version(package) for package in _PACKAGES},
        "onnxruntime": str(onnxruntime.__version__),
    }


def created_at() -> Timestamp:
    """Now, or the moment that SOURCE_DATE_EPOCH names, in seconds since 1970 (reproducible-builds.org).

    Raises:
        ExportError: the variable is set to something else.
    """
    moment = Timestamp()
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        moment.FromDatetime(datetime.now(UTC))
    elif epoch.isascii() and epoch.isdigit() and len(epoch) <= 11:
        moment.FromSeconds(int(epoch))
    else:
        raise ExportError(f"SOURCE_DATE_EPOCH is {epoch!r}; it must be a number of seconds since 1970")
    return moment
