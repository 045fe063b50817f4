"""What a folder of images has, and what of it is not trained on: a line each, for whoever starts the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Look:
    """What a file's header says of its pixels."""

    grey: bool
    transparent: bool
    paged: bool
    """It has further pages or frames."""
    banded: bool
    """It has further bands."""


def passed_over(hidden: Sequence[Path]) -> Iterator[str]:
    """The line about hidden names, where there are any."""
    if hidden:
        yield f"passed over: hidden names (a leading dot, or __MACOSX), {len(hidden):,}, {_example(hidden)}"


def channels(paths: Sequence[Path], looks: Sequence[Look]) -> str:
    """The line about the channels that all images get, and why."""
    colour = [path for path, look in zip(paths, looks, strict=True) if not look.grey]
    if not colour:
        return f"images have 1 channel: all {len(paths):,} files are grey"
    return f"images have 3 channels: {_share(colour, paths)} are in colour or have a palette, {_example(colour)}"


def left_out(paths: Sequence[Path], looks: Sequence[Look]) -> Iterator[str]:
    """A line for each part of files that is not learned from, where there is one."""
    parts = {
        "laid on black: the transparency": [look.transparent for look in looks],
        "left out: pages and frames after the first": [look.paged for look in looks],
        "left out: bands that are neither colour nor alpha": [look.banded for look in looks],
    }
    for part, having in parts.items():
        found = [path for path, has in zip(paths, having, strict=True) if has]
        if found:
            yield f"{part}, of {_share(found, paths)}, {_example(found)}"


def _share(found: Sequence[Path], paths: Sequence[Path]) -> str:
    return f"{len(found):,} of {len(paths):,} files"


def _example(paths: Sequence[Path]) -> str:
    return f"such as {paths[0]}"
