"""A decoder whose images are clipped to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.pixel_range import clip_pixels
from latentserve_server.batching.batch import Graph
from latentserve_server.engine import Arrays
from latentserve_server.engine.cancellation import Cancellation


class PixelClip:
    """A decoder, or a pipeline that ends in one, with its float images clipped.

    Graphs that the export writes clip for themselves. Those of older bundles and of other exporters need not: what they
    saturate may be 1.0000002.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def run(self, inputs: Arrays, outputs: Sequence[str], cancellation: Cancellation) -> Arrays:
        """As the graph's own; NaN stays."""
        computed = self._graph.run(inputs, outputs, cancellation)
        return {name: clip_pixels(rows) if name == "image" else rows for name, rows in computed.items()}
