"""A run's losses over its epochs, drawn from metrics.jsonl."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from latentserve_training.records import read_records

_PANEL_INCHES = (4.0, 3.0)
_DPI = 100


def draw_curves(metrics: Path, picture: Path) -> None:
    """Write a panel for every loss and validation result in `metrics`, training and validation in the same one.

    Nothing is written where there is no record.
    """
    records = read_records(metrics)
    if not records:
        return
    epochs = [record["epoch"] for record in records]
    names = [name for name in records[-1]["train"] | records[-1]["validation"] if "gradient" not in name]
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(names), height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for group in ("train", "validation"):
            if name in records[-1][group]:
                values = [record[group].get(name, float("nan")) for record in records]
                axes.plot(epochs, values, marker="." if len(epochs) < 30 else None, label=group)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    # No software version in the file: the same run draws the same bytes.
    figure.savefig(picture, metadata={"Software": None})
