"""Which calls are traced: their callers decide, and else chance; what is no traceparent counts as none."""

from __future__ import annotations

import pytest

from latentserve_server.telemetry.tracing.sampling import Parent, Sampling, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = Parent(int(TRACE, 16), int(SPAN, 16), 1)


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        (f"00-{TRACE}-{SPAN}-01", PARENT),
        (f"00-{TRACE}-{SPAN}-00", PARENT._replace(flags=0)),
        (f"00-{TRACE}-{SPAN}-ff", PARENT._replace(flags=255)),
        (f"cc-{TRACE}-{SPAN}-01", PARENT),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", PARENT),
        (f"cc-{TRACE}-{SPAN}-01.what", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_has_it(text: str, parent: Parent | None) -> None:
    assert parent_of(text) == parent


@pytest.mark.parametrize("ratio", [1e-12, 1.0])
def test_a_caller_decides_for_its_calls(ratio: float) -> None:
    sampling = Sampling(ratio)
    assert sampling.choose([("x", "y"), ("traceparent", f"00-{TRACE}-{SPAN}-01")]) == (True, PARENT)
    assert sampling.choose([("traceparent", f"00-{TRACE}-{SPAN}-00")])[0] is False


def test_what_tracing_systems_add_is_joined_in_order() -> None:
    metadata = [("tracestate", "a=1"), ("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "b=2")]
    assert Sampling(1.0).choose(metadata) == (True, PARENT._replace(state="a=1,b=2"))


@pytest.mark.parametrize("metadata", [[], [("traceparent", "nonsense")], [("tracestate", "a=1")]])
def test_chance_decides_where_the_caller_does_not(metadata: list[tuple[str, str | bytes]]) -> None:
    chosen = sum(Sampling(0.25).choose(metadata)[0] for _ in range(10_000))
    assert 2_200 < chosen < 2_800  # within 7 standard deviations
    assert Sampling(1.0).choose(metadata) == (True, None)
