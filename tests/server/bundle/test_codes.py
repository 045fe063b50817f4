"""Codes and prior graphs in golden rows: what is served, what is refused, and bound batches of every kind of model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loaded_model import loaded
from model_kinds import KINDS
from numpy.typing import NDArray
from running_server import running_server
from tiny_bundle import Golden

from latentserve_server.bundle.golden_rows import check_outputs
from latentserve_server.errors import BundleError
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.model.requests import DecodeRequest, EncodeRequest, ReconstructRequest, SampleRequest

Problem = Callable[[Path], Awaitable[str]]
VQ, DRAWN, BLIND = (KINDS[name] for name in ("vq", "drawn", "blind"))


def put(name: str, *values: tuple[tuple[int, int], float]) -> Callable[[Golden], None]:
    """An edit that puts values in places of one of the golden arrays."""

    def edit(golden: Golden) -> None:
        for place, value in values:
            golden[name][place] = value

    return edit


@pytest.mark.parametrize("name", ["decoder.codes", "encoder.codes", "prior.codes"])
async def test_golden_codes_are_in_the_codebook(tmp_path: Path, problem: Problem, name: str) -> None:
    directory = DRAWN.write(tmp_path / "vae" / "1", edit_golden=put(name, ((1, 2), 6)))
    assert await problem(directory) == f"golden rows: {name}: row 1 holds code 6; 0 to 5 are allowed"


def turned(name: str, codes: int) -> Callable[[Golden], None]:
    """An edit that makes so many golden codes others."""

    def edit(golden: Golden) -> None:
        flat = golden[name].reshape(-1)
        flat[:codes] = (flat[:codes] + 1) % VQ.codes

    return edit


@pytest.mark.parametrize("role", ["encoder", "prior"])
async def test_one_code_may_fall_to_its_neighbour_and_no_more(tmp_path: Path, problem: Problem, role: str) -> None:
    DRAWN.write(tmp_path / "one" / "vae" / "1", edit_golden=turned(f"{role}.codes", 1))
    async with running_server(tmp_path / "one"):
        pass
    directory = DRAWN.write(tmp_path / "two" / "vae" / "1", edit_golden=turned(f"{role}.codes", 2))
    assert await problem(directory) == f"{role}: output 'codes' does not reproduce the golden rows within 0.0001"


async def test_a_prior_graph_is_held_to_its_golden_rows(tmp_path: Path, problem: Problem) -> None:
    directory = BLIND.write(tmp_path / "vae" / "1", edit_golden=put("prior.latent", ((0, 0), 9)))
    assert await problem(directory) == "prior: output 'latent' does not reproduce the golden rows within 0.0001"


def test_computed_codes_are_in_the_codebook() -> None:
    check_outputs({"codes": np.array([[0, 5]])}, 6)
    with pytest.raises(BundleError, match="output 'codes', on the golden rows: row 1 holds code 6"):
        check_outputs({"codes": np.array([[0, 5], [1, 6]])}, 6)


@pytest.mark.parametrize("name", KINDS)
async def test_bound_and_padded_batches_answer_to_the_bit_what_others_do(tmp_path: Path, name: str) -> None:
    tiny = KINDS[name]
    directory, found = tiny.write(tmp_path / "model"), list[list[NDArray[Any]]]()
    images = (tiny.random_images(7) / 255).astype(np.float32)
    labels = Labels((2,), 3) if tiny.labels else NO_LABELS
    for options in ({}, {"pad": True}, {"pad": True, "bound": True}):
        async with loaded(directory, max_batch_rows=6, **options) as model:
            arrays = list[NDArray[Any]]()
            if tiny.kind != "gan":
                encoded = await model.encode(images, EncodeRequest(labels=labels))
                (latents,) = [rows for rows in (encoded.mean, encoded.codes) if rows is not None]
                decoded = await model.decode(latents, DecodeRequest(labels=labels))
                again = await model.reconstruct(images, ReconstructRequest(labels=labels))
                np.testing.assert_array_equal(again.images, decoded.images)
                arrays += [latents, again.images]
            if (sampling := model.abilities.default_sampling) is not None:
                request = SampleRequest(rows=7, seed=7, sampling=sampling, labels=labels)
                arrays.append((await model.sample(request)).images)
            found.append(arrays)
    assert found[0]
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


async def test_what_a_model_holds_counts_its_prior_graph(tmp_path: Path) -> None:
    directory = BLIND.write(tmp_path / "model")
    async with loaded(directory) as model:
        assert set(model.footprints) == {"encoder", "decoder", "prior"}
        assert model.footprints["prior"].weight_bytes == (directory / "prior.onnx").stat().st_size
        assert model.footprints["prior"].buffer_bytes == 64 * 4 * (2 + 3)
