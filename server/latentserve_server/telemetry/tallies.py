"""Counters and histograms that are cheap to raise: those of prometheus_client lock and check at every observation."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Tally:
    """How often something has happened. Counted by one thread; read by any."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Tallies(Collector):
    """A metric of Prometheus's type counter, with labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = f"latentserve_{name}", text, labels
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The tally for these values of the labels."""
        found = self._tallies.get(values)
        return found if found is not None else self._tallies.setdefault(values, Tally())

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Its name, for scrapes that ask for some metrics alone."""
        yield CounterMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What a scrape shows."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, tally in dict(self._tallies).items():
            family.add_metric(values, tally.count)
        yield family


Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]
"""An upper bound as Prometheus writes it, how many values are not above it, and one of its own values, with a trace.
OpenMetrics shows that; Prometheus's own text has no place for it."""


class Buckets:
    """How often values were observed, by their size. Filled by one thread; read by any."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count one value. That of a call with a trace stands for its bucket until the next one of such a call."""
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self._total += value
        if trace_id:
            self._exemplars[place] = Exemplar({"trace_id": trace_id}, value, time.time())

    @property
    def count(self) -> int:
        """Values that were observed."""
        return sum(self._counts)

    @property
    def total(self) -> float:
        """Their sum."""
        return self._total

    def cumulative(self) -> list[Bucket]:
        """All buckets, from the lowest on."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        counts: list[Bucket] = list(zip(bounds, accumulate(self._counts), strict=True))
        for place, exemplar in dict(self._exemplars).items():
            counts[place] = (*counts[place][:2], exemplar)
        return counts


class Histogram(Collector):
    """A metric of Prometheus's type histogram, with labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """`bounds` are the upper bounds of the buckets, ascending, without infinity."""
        self._name, self._text, self._labels, self._bounds = name, text, labels, bounds
        self._buckets: dict[tuple[str, ...], Buckets] = {}
        registry.register(self)

    def labels(self, *values: str) -> Buckets:
        """The buckets for these values of the labels."""
        found = self._buckets.get(values)
        return found if found is not None else self._buckets.setdefault(values, Buckets(self._bounds))

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Forget the buckets that have these values of these labels."""
        for values in list(self._buckets):
            if labels.items() <= dict(zip(self._labels, values, strict=True)).items():
                del self._buckets[values]

    def children(self) -> Mapping[tuple[str, ...], Buckets]:
        """All buckets, by the values of their labels."""
        return dict(self._buckets)

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Its name, for scrapes that ask for some metrics alone."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What a scrape shows."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, buckets in self.children().items():
            family.add_metric(values, buckets.cumulative(), buckets.total)
        yield family
