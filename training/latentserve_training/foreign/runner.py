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
from latentserve_training.foreign.psi_input import PSI, PsiInput
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
    psi: PsiInput | None = None
    """The foreign input of psi, where it has one."""

    @property
    def dtype(self) -> int:
        """The element type of the main input, one of onnx.TensorProto's data types."""
        return int(self.source.type.tensor_type.elem_type)

    def run(self, fed: NDArray[Any], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The file's tensors, by name, for rows of its main input, with what else of a bundle's `inputs` it takes.

        Raises:
            ExportError: it cannot run these rows, or gives what is not a finite number.
        """
        groups = [] if self.psi is None else self.psi.alike(inputs[PSI])
        if len(groups) > 1:
            found = [self.run(fed[rows], {name: each[rows] for name, each in inputs.items()}) for rows in groups]
            places = np.argsort(np.concatenate(groups))
            return {name: np.concatenate([part[name] for part in found])[places] for name in found[0]}
        try:
            tensors = self.session.run(self.feeds(fed, inputs))
        except Exception as error:  # onnxruntime's own kinds of error have no public common class
            raise ExportError(f"{self.role}: onnxruntime cannot run batches of {len(fed)}: {error}") from error
        for name, array in tensors.items():
            self._check_finite(name, array)
        return tensors

    def feeds(self, fed: NDArray[Any], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What the file is fed, by its own names, for rows of its main input."""
        rows = as_dtype(fed, self.dtype).reshape(len(fed), *row_shape(self.source, fed.shape[1:]))
        feeds = {self.source.name: np.ascontiguousarray(rows)}
        if self.label is not None:
            feeds[self.label.name] = self.label.rows(inputs["label"])
        feeds |= {noise.name: as_dtype(inputs[noise.tensor], noise.dtype) for noise in self.noises}
        feeds |= {fixed.name: fixed.rows(len(fed)) for fixed in self.fixed}
        return feeds if self.psi is None else {**feeds, self.psi.name: self.psi.own(inputs[PSI])}

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
