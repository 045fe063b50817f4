"""What a model's own framework drew, in a NumPy archive, and how far the import is from it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_training.errors import ExportError
from latentserve_training.export.parity import largest_difference
from latentserve_training.export.plan import Arrays
from latentserve_training.foreign.decoder import ForeignDecoderPlan
from latentserve_training.foreign.encoder import ForeignEncoderPlan
from latentserve_training.foreign.graph_description import SPREADS
from latentserve_training.foreign.latents import Latents
from latentserve_training.foreign.plan import ForeignImagePlan, ForeignPlan
from latentserve_training.foreign.posterior import log_variance_of
from latentserve_training.foreign.psi_input import PSI
from latentserve_training.foreign.tensor import as_rows
from latentserve_training.number_text import apart

_BATCH = 64
_NAMES = ("latent", "image", "label", "mean", "codes", *SPREADS)


@dataclass(frozen=True)
class Reference:
    """Rows of latents, images and posteriors as the framework has them: its own shapes, range and layout."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    tolerance: float
    """The largest difference that is allowed, as a fraction of a tensor's largest value, or of 1 where that is less."""

    @classmethod
    def read(cls, path: Path, tolerance: float) -> Reference:
        """The arrays in the file.

        Raises:
            ExportError: it cannot be read.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror or error}") from error
        except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            raise ExportError(f"{path}: not a NumPy archive (.npz) of numbers") from error
        return cls(path, arrays, tolerance)

    def differences(self, plans: Sequence[ForeignPlan]) -> list[str]:
        """How far each plan's outputs are from the reference, a remark for each that the reference has.

        Raises:
            ExportError: the difference is more than the tolerance, an array is unknown, or one does not fit the graphs.
        """
        noises = [noise.tensor for plan in plans for noise in plan.runner.noises]
        self._check([*noises, *(PSI for plan in plans if plan.runner.psi is not None)])
        told = []
        for plan in plans:
            if isinstance(plan, ForeignDecoderPlan) and {"latent", "image"} <= self.arrays.keys():
                expected: Arrays = {"image": self._images(plan).clip(0, 1)}
                told.append(self._compare(plan, {plan.latents.name: self._latents(plan)}, expected))
            if isinstance(plan, ForeignEncoderPlan) and {"image", plan.outputs[0]} <= self.arrays.keys():
                images = self._images(plan).astype(np.float32)
                told.append(self._compare(plan, {"image": images}, self._posterior(plan)))
        if not told:
            encoders = [plan for plan in plans if isinstance(plan, ForeignEncoderPlan)]
            encoded = "".join(f", or image and {plan.outputs[0]}" for plan in encoders)
            raise ExportError(f"{self.path}: nothing to compare; name latent and image{encoded}")
        return told

    def _check(self, others: Sequence[str]) -> None:
        """Raise ExportError unless the arrays are known ones, these others among them, of as many rows each."""
        names, known = sorted(self.arrays), [*_NAMES, *others]
        if not set(names) <= set(known):
            raise ExportError(f"{self.path}: arrays are {names}; known are {', '.join(known)}")
        if len([name for name in names if name in SPREADS]) > 1:
            raise ExportError(f"{self.path}: arrays are {names}; there may be one spread")
        counts = {name: array.shape[0] if array.ndim else 0 for name, array in self.arrays.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise ExportError(f"{self.path}: rows are {counts}; every array must have as many, and at least one")
        for name, array in self.arrays.items():
            if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise ExportError(f"{self.path}: {name} must hold finite numbers")

    def _rows(self, name: str, shape: Sequence[int]) -> NDArray[Any]:
        array = self.arrays[name]
        return as_rows(array, len(array), shape, f"{self.path}: {name}")

    def _latents(self, plan: ForeignDecoderPlan) -> NDArray[Any]:
        return plan.latents.callers(self.arrays["latent"], f"{self.path}: latent")

    def _images(self, plan: ForeignImagePlan) -> NDArray[np.float64]:
        return plan.pixels.images(self.arrays["image"], len(self.arrays["image"]), f"{self.path}: image")

    def _posterior(self, plan: ForeignEncoderPlan) -> Arrays:
        name, *spreads = plan.outputs
        latents = Latents.of(plan.description)
        expected: Arrays = {name: latents.callers(self.arrays[name], f"{self.path}: {name}")}
        for spread in set(SPREADS) & self.arrays.keys() if spreads else ():
            own = log_variance_of(spread, self._rows(spread, latents.sides), f"{self.path}: {spread}")
            expected["log_variance"] = plan.widened(own).reshape(len(own), -1)
        return expected

    def _compare(self, plan: ForeignPlan, inputs: Arrays, expected: Arrays) -> str:
        inputs = inputs | self._labels(plan) | self._noise(plan) | self._psi(plan)
        count = len(next(iter(inputs.values())))
        batches = [
            plan.compute({name: rows[start : start + _BATCH] for name, rows in inputs.items()})
            for start in range(0, count, _BATCH)
        ]
        told = []
        for name, wanted in expected.items():
            found = np.concatenate([batch[name] for batch in batches])
            difference = largest_difference(found, wanted)
            limit = self.tolerance * max(1.0, float(np.abs(wanted).max()))
            if name == "codes":  # of which one beside the right one is as wrong as any other
                difference, limit = float(np.mean(found != wanted)), self.tolerance
            if not difference <= limit:
                ours, allowed = apart(difference, limit)
                raise ExportError(f"{plan.role}: {name} differs from {self.path.name} by {ours}; allowed is {allowed}")
            told.append(f"{name} {difference:.1e}")
        return f"{plan.role}: largest difference from {count} rows of {self.path.name}: {', '.join(told)}"

    def _noise(self, plan: ForeignPlan) -> Arrays:
        for noise in plan.runner.noises:
            if noise.tensor not in self.arrays:
                raise ExportError(f"{self.path}: {noise.tensor} is missing, the noise that the images were drawn with")
        return {noise.tensor: self._rows(noise.tensor, noise.shape).astype(np.float32) for noise in plan.runner.noises}

    def _psi(self, plan: ForeignPlan) -> Arrays:
        """The psi of each row; the default, where the reference does not say."""
        asked = plan.description.psi
        if plan.runner.psi is None or asked is None:
            return {}
        if PSI in self.arrays:
            return {PSI: self._rows(PSI, ()).astype(np.float32)}
        return {PSI: np.full(len(self.arrays["image"]), asked.default, np.float32)}

    def _labels(self, plan: ForeignPlan) -> Arrays:
        if plan.runner.label is None:
            return {}
        count = plan.description.label_count
        if "label" not in self.arrays:
            raise ExportError(f"{self.path}: label is missing; the model has labels 0 to {count - 1}")
        labels = self._rows("label", ())
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= count:
            raise ExportError(f"{self.path}: label must hold whole numbers from 0 to {count - 1}")
        return {"label": labels.astype(np.int64)}
