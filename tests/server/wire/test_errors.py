"""Every error has a status, and no caller learns more than it should."""

from __future__ import annotations

import re

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentserve_server import errors
from latentserve_server.errors import LatentServeError, Overloaded
from latentserve_server.wire.status import STATUS, retry_after_ms, status_of


def tree(kind: type[LatentServeError]) -> list[type[LatentServeError]]:
    """Every class below `kind`, each before its own children."""
    return [below for child in kind.__subclasses__() for below in (child, *tree(child))]


def instance(kind: type[LatentServeError]) -> LatentServeError:
    arguments: dict[type[LatentServeError], tuple[object, ...]] = {
        errors.InvalidArgument: ("field", "problem"),
        errors.OptionError: ("--flag", "value", "problem"),
        errors.NotFinite: (3, "image"),
    }
    return kind(*arguments.get(kind, ("problem",)))


@pytest.mark.parametrize("kind", tree(LatentServeError), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_of_its_own_or_its_parents(kind: type[LatentServeError]) -> None:
    assert any(ancestor in STATUS for ancestor in kind.__mro__), f"{kind.__name__} has no status"
    code = status_of(instance(kind))
    assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    if kind.__base__ in STATUS and kind not in STATUS:
        assert code is STATUS[kind.__base__]


def test_the_table_has_no_error_that_is_not_in_the_tree() -> None:
    assert set(STATUS) <= set(tree(LatentServeError))


@pytest.mark.parametrize("error", [ValueError("secret"), LatentServeError("bare"), OSError(5, "secret")])
def test_any_other_error_is_internal(error: Exception) -> None:
    assert status_of(error) is grpc.StatusCode.INTERNAL


@given(seconds=st.floats(0, 1e9))
def test_the_time_to_come_back_is_never_nothing_nor_a_fraction(seconds: float) -> None:
    """gRPC takes a pushback that is no integer for one that says never."""
    milliseconds = retry_after_ms(Overloaded("full", retry_after=seconds))
    assert re.fullmatch("[1-9][0-9]*", str(milliseconds))
    assert milliseconds is not None
    assert milliseconds == pytest.approx(1000 * seconds, abs=50)


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    drawn = re.findall(r"── (\w+)", errors.__doc__ or "")
    assert drawn == [kind.__name__ for kind in tree(LatentServeError)]
