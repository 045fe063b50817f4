"""How a model is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentserve_client import ModelRef, RequestError

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]*", fullmatch=True)
REFS = st.one_of(
    st.builds(ModelRef, NAMES),
    st.builds(lambda name, version: ModelRef(name, version=version), NAMES, st.integers(1, 10**18 - 1)),
    st.builds(lambda name, alias: ModelRef(name, alias=alias), NAMES, NAMES),
)


@given(REFS)
def test_writing_and_reading_is_the_same_model(ref: ModelRef) -> None:
    assert ModelRef.parse(str(ref)) == ref


@given(st.text(alphabet="ab1:@.-_ /é\n", max_size=8))
def test_what_is_read_is_written_back_as_it_was(text: str) -> None:
    try:
        ref = ModelRef.parse(text)
    except RequestError:
        return
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model name ''"),
        (":3", "model name ''"),
        ("a:", "version ''"),
        ("a:0", "version '0' is not an integer from 1"),
        ("a:03", "version '03'"),
        ("a:-1", "version '-1'"),
        ("a:latest", "version 'latest'"),
        ("a:1000000000000000000", "version '1000000000000000000'"),
        ("a:" + "9" * 5000, "is not an integer from 1"),
        ("a@", "model alias ''"),
        ("a@b@c", "model alias 'b@c'"),
        ("a:1@b", "model name 'a:1'"),
        ("a/b", "model name 'a/b'"),
        ("../a", "model name '../a'"),
        ("a ", "model name 'a '"),
    ],
)
def test_misspelt_models_are_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ModelRef.parse(text)


def test_a_version_and_an_alias_contradict() -> None:
    with pytest.raises(RequestError, match="give a version or an alias, not both"):
        ModelRef("a", version=1, alias="stable")


@pytest.mark.parametrize("version", [True, 0, -1, 10**18, "3", 1.0])
def test_a_version_is_a_positive_integer(version: int) -> None:
    with pytest.raises(RequestError, match="is not an integer from 1 to"):
        ModelRef("a", version=version)
