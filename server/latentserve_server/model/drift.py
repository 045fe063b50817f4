"""The drift of one model: what it encodes and what it scores, against what its bundle was calibrated on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve_server.latent.drift import LatentDrift, PercentileDrift
from latentserve_server.latent.scores import Scores


class DriftObserver(Protocol):
    """What is told of every window, on the thread that ended it."""

    def latents_compared(self, nats: float) -> None:
        """The posterior means of a window lie so many nats a latent from the calibration's."""
        ...

    def percentiles_compared(self, index: float) -> None:
        """The anomaly percentiles of a window have this population stability index."""
        ...


class DriftWatch:
    """Sees what one model gives. Without a calibration, or of one that lacks latents, there is less to compare with."""

    def __init__(self, calibration: bundle_pb2.Calibration, observer: DriftObserver) -> None:
        means = np.array(calibration.latent_means, np.float32)
        variances = np.array(calibration.latent_variances, np.float32)
        self._latents = LatentDrift(means, variances) if len(means) else None
        self._percentiles = PercentileDrift()
        self._observer = observer

    def ran(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Note what a run gave, posterior means or others; on the thread of the model's runs."""
        if self._latents is None or "mean" not in outputs:
            return
        nats = self._latents.add(outputs["mean"])
        if nats is not None:
            self._observer.latents_compared(nats)

    def scored(self, scores: Scores) -> None:
        """Note what images scored, with percentiles or without; on the event loop."""
        if scores.anomaly_percentile is None:
            return
        index = self._percentiles.add(scores.anomaly_percentile)
        if index is not None:
            self._observer.percentiles_compared(index)
