"""Whatever a manifest says, reading it ends in a bundle or in one short line that says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_server import running_server
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.bundle.bundle import Bundle, read_bundle
from latentserve_server.errors import BundleError, StartupError

ONE_SHORT_LINE = re.compile(r"[^\n\ud800-\udfff]{1,503}")
"""All that may be said of a manifest: text that can be encoded, of 500 characters and three points at most."""

OF_PYTHON = re.compile(
    r"NoneType|object is not|unhashable|iterable|argument|codec|literal|bytes-like|set_int_max|Failed to|"
    r"'(int|str|dict|list|float)'"
)
"""What Python says of its own types."""

ODD_VALUES = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            {},
            [],
            [{}],
            "",
            "\ud800",
            "\0",
            "x" * 100_000,
            "../" * 1000,
            "Infinity",
            "NaN",
            float("inf"),
            float("nan"),
            1e400,
            -1,
            2**31,
            2**32 - 1,
            2**53 + 1,
            2**63 - 1,
            2**64,
            10**400,
            int("9" * 4000),
            "1" * 5000,
            "1e9999999",
        ]
    ),
    st.integers(),
    st.text(),
    st.recursive(st.none() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
    st.sampled_from([60, 150]).map(lambda depth: nested(depth)),
)


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a tree."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def change(tree: Any, place: tuple[Any, ...], how: str, value: Any) -> Any:
    """The tree after the value at a place was dropped, doubled or replaced."""
    if not place:
        return value
    *way, last = place
    parent = tree
    for key in way:
        parent = parent[key]
    if how == "drop":
        del parent[last]
    elif how == "double" and isinstance(parent, list):
        parent.append(parent[last])
    elif how == "double":
        parent[f"{last}_"] = parent[last]
    else:
        parent[last] = value
    return tree


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def read_upright(manifest: bundle_pb2.Manifest) -> None:
        manifest.image.reading.upright = True
        manifest.image.reading.background.red = 200
        manifest.image.reading.filter = bundle_pb2.RESIZE_FILTER_BOX

    place = tmp_path_factory.mktemp("healthy") / "vae" / "1"
    return TinyModel(height=2, width=2, latent_dim=1).write(place, edit_manifest=read_upright)


def outcome(healthy: Path, manifest: bytes) -> Bundle | str:
    """What reading the bundle with this manifest ends in: the bundle, or what is said of it."""
    place = healthy.with_name("2")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(healthy, place)
    (place / "manifest.json").write_bytes(manifest)
    try:
        return read_bundle(place)
    except BundleError as error:
        return str(error)


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_manifest_is_a_bundle_or_one_short_line(healthy: Path, data: st.DataObject) -> None:
    tree = json.loads((healthy / "manifest.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(tree)))
        tree = change(tree, place, data.draw(st.sampled_from(["drop", "double", "replace"])), data.draw(ODD_VALUES))
        if not isinstance(tree, dict):
            break
    ended = outcome(healthy, json.dumps(tree).encode())
    assert isinstance(ended, Bundle) or ONE_SHORT_LINE.fullmatch(ended)


@pytest.mark.parametrize("value", [None, [], {}, {"x": 1}, 1.5, -1, "", "x"], ids=repr)
def test_a_value_of_another_type_is_a_bundle_or_named_with_what_is_allowed(healthy: Path, value: Any) -> None:
    """Every value of a real manifest, each replaced in turn."""
    whole = (healthy / "manifest.json").read_text()
    for place in places(json.loads(whole)):
        ended = outcome(healthy, json.dumps(change(json.loads(whole), place, "replace", value)).encode())
        if isinstance(ended, str):
            assert not OF_PYTHON.search(ended), f"{place}: {ended}"
            assert "manifest" in ended or re.match(r"(golden rows|x|\w+\.\w+): ", ended), f"{place}: {ended}"


@given(place=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=20))
def test_a_manifest_with_junk_in_it_is_a_bundle_or_one_short_line(healthy: Path, place: float, junk: bytes) -> None:
    data = (healthy / "manifest.json").read_bytes()
    at = int(place * len(data))
    ended = outcome(healthy, data[:at] + junk + data[at:])
    assert isinstance(ended, Bundle) or ONE_SHORT_LINE.fullmatch(ended)


def test_a_file_may_be_listed_twice(healthy: Path) -> None:
    manifest = json.loads((healthy / "manifest.json").read_text())
    manifest["files"] *= 2
    assert isinstance(outcome(healthy, json.dumps(manifest).encode()), Bundle)


async def test_a_batch_that_would_take_too_much_memory_has_fewer_rows(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_batch_rows=20_000_000) as served:
        reply = await served.models.GetModel(models_pb2.GetModelRequest(model={"name": "vae"}))
    assert 1 <= reply.model.limits.max_batch_rows <= (1 << 30) // (4 * 20)


async def test_a_run_that_takes_too_much_memory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    def demand_rows(manifest: bundle_pb2.Manifest) -> None:
        manifest.graphs[0].batch_rows = 4096

    TinyModel(kind="gan", height=257, width=256).write(tmp_path / "gan" / "1", edit_manifest=demand_rows)
    with pytest.raises(StartupError) as caught:
        async with running_server(tmp_path):
            pass
    size = 4096 * 257 * 256 * 4
    assert str(caught.value).endswith(
        f"decoder: a run of 4096 rows of 'image' takes {size} bytes where 1073741824 are allowed"
    )
