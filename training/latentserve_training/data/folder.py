"""A folder of image files, with one subfolder per class if there are classes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from latentserve.picture import OWN_FORMATS, Picture, PictureError, open_picture
from latentserve_training.data.dataset import Split
from latentserve_training.data.placement import gather
from latentserve_training.data.reading import READING
from latentserve_training.data.remarks import PixelTraits, channels, classes, dropped_parts, skipped_files
from latentserve_training.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
_FILES_AHEAD = 64
"""Files that may be decoded before their turn."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Folder:
    """The image files of a folder, known by their headers; `read` decodes them, as READING says.

    Grey when every file is grey, else RGB.
    """

    paths: Sequence[Path]
    """The image files in sorted order."""
    grey: bool
    size: int | None
    """Height and width to resize to; without, all files must share one size."""
    labels: NDArray[np.int64] | None
    """When every file lies in a subfolder: the number of the first folder on its path, in sorted order; int64 [n]."""
    label_names: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    """Lines for the user: what the files hold, and which of it is ignored."""

    @classmethod
    def under(cls, root: Path, size: int | None) -> Self:
        """Every image file under `root` except hidden ones.

        Raises:
            DataError: `root` is no folder or holds no images, or a file is none.
        """
        if not root.is_dir():
            raise DataError(f"data.root {root} is not a folder")
        found = sorted(_files(root))
        hidden = [path for path in found if _is_hidden(path.name)]
        shown = [path for path in found if not _is_hidden(path.name)]
        paths = [path for path in shown if path.suffix.lower() in SUFFIXES]
        passed = list(skipped_files(hidden, [path for path in shown if path.suffix.lower() not in SUFFIXES]))
        if not paths:
            known = f"known are {', '.join(sorted(SUFFIXES))}"
            raise DataError("; ".join((f"data.root {root} holds no image files", known, *passed)))
        looks = list(_threaded(_look, paths, "looking at images"))
        labels, names = _labels(root, paths)
        remarks = (*passed, classes(paths, root, names), channels(paths, looks), *dropped_parts(paths, looks))
        return cls(paths, all(look.grey for look in looks), size, labels, names, remarks)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height and width of the first file, and so of all.

        Raises:
            DataError: it cannot be decoded.
        """
        return self._decode(self.paths[0]).shape

    def read(self, rows: NDArray[np.int64], *, in_file: bool = False) -> Split:
        """The files of these rows, in their order: uint8 [n, 1 or 3, height, width], and their labels.

        With `in_file` the images lie in a temporary file instead of in memory.

        Raises:
            DataError: a file cannot be decoded, the sizes differ, or there is no room on disk.
        """
        decoded = _threaded(lambda row: self._like_the_first(self.paths[row]), rows.tolist(), "reading images")
        images = gather(decoded, shape=(len(rows), *self.image_shape), in_file=in_file)
        return Split(images, None if self.labels is None else self.labels[rows], self.label_names)

    def _like_the_first(self, path: Path) -> NDArray[np.uint8]:
        image = self._decode(path)
        if image.shape != self.image_shape:
            raise DataError(
                f"{path} is {_sides(image.shape)}, but {self.paths[0]} is {_sides(self.image_shape)}; "
                "set data.size to resize all"
            )
        return image

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        """The file's pixels, [channels, height, width]."""
        with _opened(path) as picture:
            return picture.pixels(1 if self.grey else 3, None if self.size is None else (self.size, self.size))


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Every file under the folder; links are followed, but not in circles, and hidden folders are not entered."""
    place = folder.resolve()
    if place in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name):
                yield folder / entry.name
            elif entry.is_dir():
                yield from _files(folder / entry.name, above | {place})
            elif entry.is_file() or entry.is_symlink():  # a link that leads nowhere is a file that cannot be read
                yield folder / entry.name


def _is_hidden(name: str) -> bool:
    """Whether the name is one that tools give to their own files: notebooks, file managers, macOS archives."""
    return name.startswith(".") or name == "__MACOSX"


def _threaded(function: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """`function` of every item, in order, computed on threads (Pillow releases the GIL while it decodes)."""
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor() as threads, tqdm(total=len(items), desc=what, leave=False, disable=None) as bar:
        try:
            for number in range(len(items) + _FILES_AHEAD):
                if number < len(items):
                    ahead.append(threads.submit(function, items[number]))
                if number >= _FILES_AHEAD:
                    yield ahead.popleft().result()
                    bar.update()
        finally:
            for waiting in ahead:
                waiting.cancel()


def _look(path: Path) -> PixelTraits:
    with _opened(path) as picture:
        return PixelTraits(picture.grey, picture.transparent, picture.paged, picture.banded)


@contextmanager
def _opened(path: Path) -> Iterator[Picture]:
    """The opened picture; errors of the picture within the block become DataErrors as well."""
    try:
        with open_picture(path, READING, OWN_FORMATS) as picture:
            yield picture
    except PictureError as error:
        raise DataError(f"{path}: cannot be decoded: {error.__cause__ or error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _sides(image_shape: tuple[int, ...]) -> str:
    _, height, width = image_shape
    return f"{width}x{height}"


def _labels(root: Path, paths: Sequence[Path]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    places = [path.relative_to(root).parts for path in paths]
    if any(len(parts) == 1 for parts in places):
        return None, ()
    numbers = {name: number for number, name in enumerate(sorted({parts[0] for parts in places}))}
    for name in numbers:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"data.root {root}: a class's name must be UTF-8, unlike {name!a}") from error
    return np.array([numbers[parts[0]] for parts in places], dtype=np.int64), tuple(numbers)
