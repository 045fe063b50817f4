"""The curves of growth: as tables of Markdown, and as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from front.growth import Curve, Point
from front.report import number


def tables(curves: Sequence[Curve]) -> str:
    """One table a curve."""
    return "\n\n".join(_table(curve) for curve in curves)


def _table(curve: Curve) -> str:
    beside = list(curve.points[0].beside)
    head = [curve.what, "calls/s", "CPU us a call", *([f"CPU us a {curve.each}"] if curve.each else [])]
    head += ["p50 ms", "p99 ms", *beside]
    lines = [head, ["---"] * len(head), *(_cells(curve, point) for point in curve.points)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(curve: Curve, point: Point) -> list[str]:
    cells = [f"{point.at:,}", number(point.calls_per_second), number(point.cpu_us_a_call)]
    cells += [number(point.cpu_us_a_call / point.at)] if curve.each else []
    return [*cells, number(point.p50_us / 1e3), number(point.p99_us / 1e3), *map(number, point.beside.values())]


def picture(curves: Sequence[Curve], path: Path) -> None:
    """Processor time by what grows, both in logarithms; by each of a call's rows it is flat where it is linear."""
    from matplotlib.figure import Figure  # takes most of a second to import

    figure = Figure(figsize=(3.2 * len(curves), 3), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        places = [point.at for point in curve.points]
        axes.loglog(places, [point.cpu_us_a_call for point in curve.points], marker=".", label="a call")
        if curve.each:
            each = [point.cpu_us_a_call / point.at for point in curve.points]
            axes.loglog(places, each, marker=".", label=f"a {curve.each}")
            axes.legend()
        axes.set_xlabel(curve.what)
    figure.axes[0].set_ylabel("processor time of the server, us")
    figure.savefig(path)
