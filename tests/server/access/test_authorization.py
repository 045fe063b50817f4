"""The authorization header is one bearer token, or the call has none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentserve_server.access.authorization import bearer_token
from latentserve_server.errors import Unauthenticated

TOKEN = r"[A-Za-z0-9._~+/-]+=*"  # noqa: S105  # the form of RFC 6750
OTHER = st.tuples(st.sampled_from(["x-request-id", "user-agent"]), st.text(max_size=8))


def reason(*headers: tuple[str, str | bytes]) -> str:
    with pytest.raises(Unauthenticated) as refused:
        bearer_token(headers)
    return refused.value.reason


@given(
    token=st.from_regex(TOKEN, fullmatch=True), before=st.lists(OTHER), after=st.lists(OTHER), blanks=st.integers(1, 3)
)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_is_what_follows_the_scheme(
    scheme: str, token: str, before: list[tuple[str, str]], after: list[tuple[str, str]], blanks: int
) -> None:
    header = ("authorization", f"{scheme}{' ' * blanks}{token}")
    assert bearer_token([*before, header, *after]) == token


@given(value=st.text() | st.from_regex(rf"(?i)bearer *{TOKEN}.?", fullmatch=True) | st.binary())
def test_anything_else_is_malformed(value: str | bytes) -> None:
    if isinstance(value, str) and re.fullmatch(rf"(?i:bearer) +{TOKEN}", value, re.ASCII):
        assert value.endswith(bearer_token([("authorization", value)]))
    else:
        assert reason(("authorization", value)) == "malformed"


def test_no_header_and_two_of_them() -> None:
    assert reason(("x-request-id", "Bearer abc")) == "missing"
    assert reason(("authorization", "Bearer abc"), ("authorization", "Bearer abc")) == "malformed"
