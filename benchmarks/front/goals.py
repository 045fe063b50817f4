"""What the server is to reach, and how each figure is made of what the rounds measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from front.figures import Figures
from front.models import HEAVY, LIGHT

Values = Callable[[Figures], Sequence[float]]


@dataclass(frozen=True)
class Goal:
    """One row of the table."""

    what: str
    values: Values | None
    """One value a round; None where nothing measures it yet."""
    bound: float | None = None
    """None where the row is there to compare with."""
    at_most: bool = False
    unit: str = ""
    note: str = ""

    def met(self, value: float) -> bool | None:
        """Whether a median reaches the bound; None where there is none."""
        if self.bound is None:
            return None
        return value <= self.bound if self.at_most else value >= self.bound


def goals() -> list[Goal]:
    """All rows, in the table's order."""
    against = "against Triton"
    rows = [
        Goal(f"Sample, MLP GAN, {_rows(rows)} a call, {against}", _by_triton("sample", LIGHT, rows), bound)
        for rows, bound in ((1, 1.2), (16, 1.2), (64, 1.15), (256, 1.1))
    ]
    rows += [
        Goal(f"Sample, conv VAE, {_rows(rows)} a call, {against}", _by_triton("sample", HEAVY, rows), bound)
        for rows, bound in ((1, 1.1), (16, 1.0), (64, 1.0), (256, 1.0))
    ]
    rows += [
        Goal(f"OIP ModelInfer, {title}, {_rows(rows)} a call, {against}", _by_triton("oip", model, rows), 1.0)
        for model, title in ((LIGHT, "MLP GAN"), (HEAVY, "conv VAE"))
        for rows in (1, 16, 64, 256)
    ]
    return (
        rows
        + _images()
        + _latency()
        + _bare()
        + _open_loop()
        + _process()
        + _workers()
        + _others()
        + _client()
        + _compare()
    )


def _images() -> list[Goal]:
    return [
        Goal(
            f"{name.capitalize()}, conv VAE, one uint8 image, against Triton",
            _ratio(f"{name}.calls_per_second", f"triton/{name}.calls_per_second"),
            1.0,
        )
        for name in ("encode", "reconstruct", "score")
    ]


def _latency() -> list[Goal]:
    own, triton = f"single/sample/{LIGHT}.p50_us", f"single/triton/{LIGHT}.p50_us"
    return [
        Goal("one call at a time, MLP GAN, 1 row, p50", _plain(own), 200.0, at_most=True, unit="us"),
        Goal("the same against Triton's p50", _ratio(own, triton), 1.0, at_most=True),
        Goal(
            "CPU time of the server a call, MLP GAN, 1 row",
            _plain(f"sample/{LIGHT}/1.cpu_us_a_call"),
            42.0,
            at_most=True,
            unit="us",
        ),
    ]


def _bare() -> list[Goal]:
    return [
        Goal(f"rows/s against bare onnxruntime, {title}, {_rows(rows)} a call", _by_bare(model, rows), bound)
        for model, title, rows, bound in (
            (HEAVY, "conv VAE", 16, 0.97),
            (HEAVY, "conv VAE", 64, 0.97),
            (HEAVY, "conv VAE", 256, 0.97),
            (LIGHT, "MLP GAN", 256, 0.85),
        )
    ]


def _process() -> list[Goal]:
    health = _plain("health_beside_load.p99_us", 1e-3)
    return [
        Goal("health check p99 while 64 callers load the conv VAE", health, 5.0, at_most=True, unit="ms"),
        Goal("start to SERVING", _plain("latentserve.seconds_to_serving"), 0.6, at_most=True, unit="s"),
        Goal("memory at rest (PSS)", _plain("latentserve.memory_mib"), 200.0, at_most=True, unit="MiB"),
    ]


def _client() -> list[Goal]:
    blocking, concurrent = "python_client/blocking.calls_per_second", "python_client/asyncio.calls_per_second"
    return [
        Goal("Python client, blocking, one thread, 1 row", _plain(blocking), 3000.0, unit="calls/s"),
        Goal("Python client, asyncio, 64 in flight, 1 row", _plain(concurrent), 5000.0, unit="calls/s"),
    ]


def _open_loop() -> list[Goal]:
    return [
        Goal(
            f"p99 at 80 % of capacity (open loop, Poisson) over p50 unloaded, {title}, 1 row",
            _ratio(f"open_loop/{model}.p99_us", f"single/sample/{model}.p50_us"),
            3.0,
            at_most=True,
            note="not every call at this rate was answered",
        )
        for model, title in ((LIGHT, "MLP GAN"), (HEAVY, "conv VAE"))
    ]


def _workers() -> list[Goal]:
    rates, times = ([f"workers/{count}.{of}" for count in (2, 1)] for of in ("calls_per_second", "cpu_us_a_call"))
    crowded = [f"workers_on_one_core/{count}.cpu_us_a_call" for count in (2, 1)]
    return [
        Goal("--workers 2 against 1, MLP GAN, 1 row", _ratio(*rates), 1.8, note="wants the option, and three cores"),
        Goal(
            "CPU time a call, --workers 2 against 1, MLP GAN, 1 row",
            lambda figures: _ratio(*times)(figures) or _ratio(*crowded)(figures),
            1.1,
            at_most=True,
            note="wants the option",
        ),
    ]


def _others() -> list[Goal]:
    return [
        Goal(
            f"Sample, MLP GAN, {_rows(rows)} a call, against {title}",
            _ratio(f"beside/latentserve/{rows}.calls_per_second", f"beside/{name}/{rows}.calls_per_second"),
            bound,
            note="only in `make bench`",
        )
        for name, title in (("litserve", "LitServe"), ("mlserver", "MLServer"))
        for rows, bound in ((1, 5.0), (64, 1.5))
    ]


def _compare() -> list[Goal]:
    return [
        Goal("for comparison: Triton, MLP GAN, 1 row", _plain(f"triton/{LIGHT}/1.calls_per_second"), unit="calls/s"),
        Goal("for comparison: Triton, memory at rest (PSS)", _plain("triton.memory_mib"), unit="MiB"),
        Goal(
            "for comparison: how late the open loop sent, p99, MLP GAN",
            _plain(f"open_loop/{LIGHT}.late_p99_us"),
            unit="us",
        ),
        Goal("for comparison: an empty call of grpc.aio", _plain("empty.calls_per_second"), unit="calls/s"),
    ]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _plain(name: str, scale: float = 1.0) -> Values:
    return lambda figures: [scale * value for value in figures.values.get(name, ())]


def _ratio(above: str, below: str) -> Values:
    return lambda figures: figures.ratios(above, below) if above in figures.values else []


def _by_triton(kind: str, model: str, rows: int) -> Values:
    own, other = (f"{server}/{model}/{rows}.calls_per_second" for server in (kind, "triton"))
    return _ratio(own, other)


def _by_bare(model: str, rows: int) -> Values:
    own, bare = f"sample/{model}/{rows}.calls_per_second", f"bare/{model}/{rows}.rows_per_second"
    return lambda figures: [rows * ratio for ratio in figures.ratios(own, bare)]
