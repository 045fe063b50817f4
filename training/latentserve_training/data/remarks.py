"""Remarks on a folder of images: what it holds, and what is left out of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_NAMED = 8
"""How many classes or kinds of files a remark names at most."""


@dataclass(frozen=True)
class PixelTraits:
    """What a file's header says of its pixels."""

    grey: bool
    transparent: bool
    paged: bool
    """It has further pages or frames."""
    banded: bool
    """It has further bands."""


def skipped_files(hidden: Sequence[Path], others: Sequence[Path]) -> Iterator[str]:
    """The lines about hidden files and files of other kinds, if there are any."""
    if hidden:
        yield f"passed over: hidden names (a leading dot, or __MACOSX), {len(hidden):,}, {_example(hidden)}"
    if others:
        counted = Counter(path.suffix.lower() or "no suffix" for path in others).most_common()
        kinds = [f"{suffix} ({count:,})" for suffix, count in counted[:_NAMED]]
        more = ["…"] if len(counted) > _NAMED else []
        yield f"passed over: files of other kinds, {len(others):,}: {', '.join(kinds + more)}"


def classes(paths: Sequence[Path], root: Path, names: Sequence[str]) -> str:
    """The line about the classes, or why there are none."""
    if names:
        more = [] if len(names) <= _NAMED else ["…"]
        return f"classes are the subfolders, {len(names):,}: {', '.join([*names[:_NAMED], *more])}"
    loose = [path for path in paths if path.parent == root]
    return f"there are no classes: {_share(loose, paths)} lie in no subfolder, {_example(loose)}"


def missing_classes(names: Sequence[str], labels: NDArray[np.int64]) -> Iterator[str]:
    """The line about classes without a training image, if there are any."""
    taught = set(labels.tolist())
    missing = [name for number, name in enumerate(names) if number not in taught]
    if missing:
        yield f"{len(missing):,} of {len(names):,} classes have no image among those for training, such as {missing[0]}"


def channels(paths: Sequence[Path], looks: Sequence[PixelTraits]) -> str:
    """The line about the channels that all images get, and why."""
    colour = [path for path, look in zip(paths, looks, strict=True) if not look.grey]
    if not colour:
        return f"images have 1 channel: all {len(paths):,} files are grey"
    return f"images have 3 channels: {_share(colour, paths)} are in colour or have a palette, {_example(colour)}"


def dropped_parts(paths: Sequence[Path], looks: Sequence[PixelTraits]) -> Iterator[str]:
    """A line for each part of the files that training ignores, if there is one."""
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
