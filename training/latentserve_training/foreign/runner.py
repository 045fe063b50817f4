"""A foreign graph that is run on rows: what it is fed beside its main input, and whether it gives numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from latentserve_training.errors import ExportError
from latentserve_training.foreign.fixed_input import FixedInput
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.noise_input import NoiseInput
from latentserve_training.foreign.onnx_file import ForeignSession
from latentserve_training.foreign.tensor import as_dtype, row_shape


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The original file, run on rows of latents, images or noise."""

    role: str
    session: ForeignSession
    """A session of the original file."""
    source: onnx.ValueInfoProto
    """The foreign input of latents, images or a prior's noise."""
    label: LabelInput | None
    """The foreign input of labels, where it has one."""
    fixed: tuple[FixedInput, ...]
    """The foreign inputs that are the same in every call."""
    noises: tuple[NoiseInput, ...] = ()
    """The foreign inputs of noise, other for every row."""

    @property
    def dtype(self) -> int:
        """The element type of the main input, one of onnx.TensorProto's data types."""
        return int(self.source.type.tensor_type.elem_type)

    def run(self, fed: NDArray[Any], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The file's tensors, by name, for rows of its main input, with the labels and noise among a bundle's `inputs`.

        Raises:
            ExportError: it cannot run these rows, or gives what is not a finite number.
        """
        rows = as_dtype(fed, self.dtype).reshape(len(fed), *row_shape(self.source, fed.shape[1:]))
        feeds = {self.source.name: np.ascontiguousarray(rows)}
        if self.label is not None:
            feeds[self.label.name] = self.label.rows(inputs["label"])
        feeds |= {noise.name: as_dtype(inputs[noise.tensor], noise.dtype) for noise in self.noises}
        feeds |= {fixed.name: fixed.rows(len(fed)) for fixed in self.fixed}
        try:
            found = self.session.run(feeds)
        except Exception as error:  # onnxruntime's own kinds of error have no public common class
            raise ExportError(f"{self.role}: onnxruntime cannot run batches of {len(fed)}: {error}") from error
        for name, array in found.items():
            self._check_finite(name, array)
        return found

    def _check_finite(self, name: str, array: NDArray[Any]) -> None:
        """Raise ExportError for a tensor with NaN or infinity."""
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return
        wrong = int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())
        what = "NaN (not a number)" if np.isnan(array).any() else "infinity"
        raise ExportError(
            f"{self.role}: {name!r} is {what} somewhere in {wrong} of {len(array)} rows drawn to check it; a server "
            "serves finite numbers alone"
        )
