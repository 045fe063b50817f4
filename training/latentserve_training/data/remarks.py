"""What a folder of images has that is not trained on, a line each, for whoever starts the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path


def passed_over(hidden: Sequence[Path]) -> Iterator[str]:
    """The line about hidden names, where there are any."""
    if hidden:
        yield f"passed over because hidden (a leading dot, or __MACOSX): {_counted(hidden)}"


def _counted(paths: Sequence[Path]) -> str:
    """How many they are, and one of them to look at."""
    return str(paths[0]) if len(paths) == 1 else f"{len(paths):,}, such as {paths[0]}"
