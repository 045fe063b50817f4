"""A checkpoint: all that a run needs to continue bit for bit, in one atomic file."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from latentserve_training.errors import RunError
from latentserve_training.run.atomic_file import replacing, write_durably
from latentserve_training.run.origin import Origin
from latentserve_training.run.progress import Progress

FORMAT = 4
"""Changes with what a checkpoint holds or means; a version reads only its own format."""

_REMEDY = "train again, or use the version that wrote it"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run between two training steps. Only tensors and plain values, so that loading runs no code."""

    origin: Origin
    progress: Progress
    model: dict[str, Any]
    average: dict[str, Any]
    optimizers: list[dict[str, Any]]
    scales: dict[str, dict[str, Any]]
    rng: dict[str, Tensor]

    def save(self, path: Path, *also: Path) -> None:
        """Write to `path`, and hard-link the paths `also`, in the same folder, to the same file.

        Each appears atomically, `path` last: a reader, or a run after a crash, finds the old file or the new one.

        Raises:
            RunError: the file cannot be written, as on a full disk; what `path` held before is still there.
        """
        try:
            with replacing(path) as temporary:
                write_durably(temporary, self._content())
                for other in also:
                    with replacing(other) as twin:
                        # Checkpoints are replaced and never changed, so two names can share one file's megabytes.
                        twin.hardlink_to(temporary)
        except OSError as error:
            stays = "; the checkpoint of before stays" if path.is_file() else ""
            raise RunError(f"{path}: cannot be saved: {error.strerror}{stays}") from error

    def _content(self) -> memoryview:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"origin": asdict(self.origin), "progress": asdict(self.progress)}
        # Not straight into a file: where its end does not fit on the disk, torch raises an error of its own.
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **values}, buffer)
        return buffer.getbuffer()

    @contextmanager
    def refusing_other_networks(self) -> Iterator[None]:
        """Within the block, a state of this checkpoint that does not fit its network raises RunError."""
        try:
            yield
        except (RuntimeError, ValueError, KeyError) as error:
            family = self.origin.config["model"]["family"]
            commit = f" (commit {self.origin.git_commit})" if self.origin.git_commit else ""
            raise RunError(
                f"the checkpoint's weights are of another network than today's {family}; {_REMEDY}{commit}"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """The checkpoint in `path`, on the CPU.

        Raises:
            RunError: the file is missing, damaged, or not a checkpoint of this format.
        """
        checkpoint, _ = cls.load_with_digest(path)
        return checkpoint

    @classmethod
    def load_with_digest(cls, path: Path) -> tuple[Self, str]:
        """The checkpoint in `path` and the SHA-256, in hexadecimal, of the very bytes it was read from."""
        try:
            content = path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                damaged = archive.testzip()  # which torch does not look for
            if damaged is not None:
                raise RunError(f"{path}: damaged: {damaged} is not what was saved")
            values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if (written := values.pop("format")) != FORMAT:
                raise RunError(f"{path}: a checkpoint of format {written}, but this version reads {FORMAT}; {_REMEDY}")
            values["origin"] = Origin(**values["origin"])
            values["progress"] = Progress(**values["progress"])
            return cls(**values), hashlib.sha256(content).hexdigest()
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from error
        except (
            RuntimeError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
            EOFError,
            TypeError,
            LookupError,
            AttributeError,
            ValueError,
        ) as error:
            raise RunError(f"{path}: damaged, or not a checkpoint") from error
