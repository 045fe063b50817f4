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


NAMED = (
    "is not letters, digits, '_', '.' and '-', beginning with neither '.' nor '-' "
    "(a model is written name, name:3 or name@alias)"
)
NUMBERED = "is not an integer from 1 to 10^18 - 1"
NINES = "9" * 5000
MISSPELT = [
    ("", f"model name '' {NAMED}"),
    (":3", f"model name '' {NAMED}"),
    ("a:", f"model 'a:': version '' {NUMBERED}"),
    ("a:0", f"model 'a:0': version '0' {NUMBERED}"),
    ("a:03", f"model 'a:03': version '03' {NUMBERED}"),
    ("a:-1", f"model 'a:-1': version '-1' {NUMBERED}"),
    ("a:latest", f"model 'a:latest': version 'latest' {NUMBERED}"),
    ("a:1000000000000000000", f"model 'a:1000000000000000000': version '1000000000000000000' {NUMBERED}"),
    (f"a:{NINES}", f"model 'a:{NINES}': version '{NINES}' {NUMBERED}"),
    ("a@", f"model alias '' {NAMED}"),
    ("a@b@c", f"model alias 'b@c' {NAMED}"),
    ("a:1@b", f"model name 'a:1' {NAMED}"),
    ("a/b", f"model name 'a/b' {NAMED}"),
    ("../a", f"model name '../a' {NAMED}"),
    ("a ", f"model name 'a ' {NAMED}"),
]


@pytest.mark.parametrize(("text", "message"), MISSPELT, ids=lambda value: value[:20])
def test_misspelt_models_are_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        ModelRef.parse(text)
    assert str(caught.value) == message


def test_a_version_and_an_alias_contradict() -> None:
    with pytest.raises(RequestError) as caught:
        ModelRef("a", version=1, alias="stable")
    assert str(caught.value) == "model 'a': give a version or an alias, not both"


@pytest.mark.parametrize("version", [True, 0, -1, 10**18, "3", 1.0])
def test_a_version_is_a_positive_integer(version: int) -> None:
    with pytest.raises(RequestError) as caught:
        ModelRef("a", version=version)
    assert str(caught.value) == f"model 'a': version {version!r} {NUMBERED}"
