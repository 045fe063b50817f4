"""Plots over a run's epochs: loss curves, and the KL of every latent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PANEL_INCHES = (4.0, 3.0)
_DPI = 100
_LEAST_KL = 1e-3
"""KL below this is plotted as zero."""


def draw_curves(records: Sequence[dict[str, Any]], picture: Path) -> None:
    """Write a panel for every loss and validation result of a run, training and validation in the same one.

    Nothing is written if there are no records.
    """
    if not records:
        return
    epochs = [record["epoch"] for record in records]
    names = [name for name in records[-1]["train"] | records[-1]["validation"] if "gradient" not in name]
    figure = _figure(panels=len(names))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for group in ("train", "validation"):
            if name in records[-1][group]:
                values = [record[group].get(name, float("nan")) for record in records]
                axes.plot(epochs, values, marker="." if len(epochs) < 30 else None, label=group)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, picture)


def draw_kl_by_latent(records: Sequence[dict[str, Any]], picture: Path) -> None:
    """Write every latent's KL on the validation images, a column an epoch; the last epoch's largest is on top.

    Nothing is written for a run without such numbers, such as a GAN's.
    """
    told = [record for record in records if "kl_nats_by_latent" in record.get("series", {})]
    if not told:
        return
    columns = np.array([record["series"]["kl_nats_by_latent"] for record in told])
    columns = columns[:, np.argsort(-columns[-1], kind="stable")]
    latents = columns.shape[1]
    figure = _figure(panels=2)
    axes = figure.add_subplot()
    shown = axes.imshow(
        columns.T.clip(_LEAST_KL),
        norm=LogNorm(_LEAST_KL, max(1.0, float(columns.max()))),
        aspect="auto",
        interpolation="nearest",
        extent=(told[0]["epoch"] - 0.5, told[-1]["epoch"] + 0.5, latents + 0.5, 0.5),
    )
    axes.set_title("KL of each latent, nats")
    axes.set_xlabel("epoch")
    axes.set_ylabel("latent, by its last KL")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(shown)
    _save(figure, picture)


def _figure(panels: int) -> Figure:
    """A figure that is as wide as `panels` panels."""
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * panels, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, picture: Path) -> None:
    # No software version in the file: the same run draws the same bytes.
    figure.savefig(picture, metadata={"Software": None})
