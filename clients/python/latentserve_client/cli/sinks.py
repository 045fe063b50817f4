"""Sinks for samples as they arrive: one picture, one array, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from latentserve_client.cli.files import GrowingArray
from latentserve_client.cli.output import Output, draw_grid, standard_output, write_header
from latentserve_client.inputs import FileFormat, Format
from latentserve_client.results import Samples


class Sink:
    """Takes chunks in index order, within a `with` block whose good end completes the output.

    Attributes:
        format: what the chunks have to hold.
        bands: the channels that files in them have to show; None for arrays, and for all.
    """

    format: Format
    bands: Sequence[int] | None = None
    _rows = 0

    @property
    def rows(self) -> int:
        """Images taken."""
        return self._rows

    def write(self, chunk: Samples) -> None:
        """Take a chunk."""
        raise NotImplementedError

    def keep(self) -> Path | None:
        """The path that keeps an incomplete output; None if nothing written so far is of use."""
        return None

    def complete(self) -> None:
        """Everything has been written."""

    def close(self) -> None:
        """Leave what was completed or kept, and nothing else."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        try:
            if kind is None:
                self.complete()
        finally:
            self.close()


class GridSink(Sink):
    """A picture of all images on a near-square grid, whole or not at all. Holds all pixels that it shows."""

    format: Format = "uint8"

    def __init__(self, output: Output) -> None:
        self._output = output
        self._images: list[NDArray[np.uint8]] = []

    def write(self, chunk: Samples) -> None:
        """Take a chunk."""
        self._images.append(self._output.shown(chunk.images))
        self._rows += len(chunk.images)

    def complete(self) -> None:
        """Draw the picture."""
        self._output.write_picture(draw_grid(np.concatenate(self._images)))


class ArraySink(Sink):
    """A .npy file float32 [n, *shape]. What is kept has the seed and the indices in its name."""

    format: Format = "float32"

    def __init__(self, path: Path, shape: tuple[int, ...], seed: int, first_index: int) -> None:
        self._path = path
        self._seed = seed
        self._first_index = first_index
        self._array = GrowingArray(path, shape, "<f4")

    @property
    def rows(self) -> int:
        """Images taken."""
        return self._array.rows

    def write(self, chunk: Samples) -> None:
        """Take a chunk."""
        self._array.append(chunk.images)

    def keep(self) -> Path | None:
        """The file so far, which is whole as far as it goes."""
        if not self.rows:
            return None
        last = self._first_index + self.rows - 1
        kept = self._path.with_name(f"{self._path.stem}.seed-{self._seed}.rows-{self._first_index}-{last}.npy")
        self._array.publish(kept)
        return kept

    def complete(self) -> None:
        """Give the file its name."""
        self._array.publish(self._path)

    def close(self) -> None:
        """Delete the file, unless it was completed or kept."""
        self._array.discard()


class PipedArraySink(Sink):
    """A .npy array float32 [n, *shape] on standard output, as it arrives: cut short where the job is broken off."""

    format: Format = "float32"

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        with standard_output() as file:
            write_header(file, np.dtype("<f4"), (count, *shape))

    def write(self, chunk: Samples) -> None:
        """Take a chunk."""
        with standard_output() as file:
            file.write(np.ascontiguousarray(chunk.images, "<f4").data)
        self._rows += len(chunk.images)


class FolderSink(Sink):
    """A folder with one file an image, as the server made it, named by its index. Each is whole or not there."""

    def __init__(self, folder: Path, output: Output, format: FileFormat) -> None:
        self._folder = folder
        self._output = output
        self.format: Format = format
        self.bands = output.bands or None
        folder.mkdir(exist_ok=True)

    def write(self, chunk: Samples) -> None:
        """Take a chunk."""
        for index, picture in enumerate(chunk.files, chunk.first_index):
            self._output.write_file(index, picture)
            self._rows += 1

    def keep(self) -> Path | None:
        """The folder."""
        return self._folder if self.rows else None
