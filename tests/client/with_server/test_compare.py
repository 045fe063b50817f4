"""`latentserve compare` over two real versions of one model, named by the aliases of a rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_shelf import Shelf
from running_server import running_server
from tiny_bundle import TinyModel

from latentserve_client.cli.main import main
from latentserve_server.latent.noise import NoiseSource, Stream

Edit = Callable[[onnx.ModelProto], None]
Compare = Callable[..., Awaitable[tuple[int, dict[str, str], str]]]
COUNT, SEED, EDGE = 300, 3, 2.0


def break_far_out(decoder: onnx.ModelProto) -> None:
    """Add 0 * sqrt(EDGE - z[0]) to the image: nothing, and no number at all where z[0] is beyond the edge."""
    place = next(i for i, node in enumerate(decoder.graph.node) if "image" in node.output)
    decoder.graph.node[place].output[:] = ["sound_image"]
    links = [
        ("Gather", ["latent", "broken_first"], "broken_value", {"axis": 1}),
        ("Sub", ["broken_edge", "broken_value"], "broken_room", {}),
        ("Sqrt", ["broken_room"], "broken_root", {}),
        ("Mul", ["broken_root", "broken_zero"], "broken_nothing", {}),
        ("Add", ["sound_image", "broken_nothing"], "image", {}),
    ]
    for offset, (operator, inputs, output, attributes) in enumerate(links, start=1):
        decoder.graph.node.insert(place + offset, onnx.helper.make_node(operator, inputs, [output], **attributes))
    for name, value in (
        ("broken_first", np.array([[[0]]], np.int64)),
        ("broken_edge", np.array(EDGE, np.float32)),
        ("broken_zero", np.array(0, np.float32)),
    ):
        decoder.graph.initializer.append(onnx.numpy_helper.from_array(value, name))


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Compares stable and canary, of which the models have these seeds: exit code, facts and stderr."""

    async def compare(
        stable: int, canary: int, *argv: object, edit_canary: Edit | None = None
    ) -> tuple[int, dict[str, str], str]:
        shelf = Shelf(tmp_path)
        shelf.publish(1, stable)
        edit = {"edit_decoder": edit_canary} if edit_canary else {}
        shelf.publish_written(2, lambda place: TinyModel(seed=canary).write(place, **edit))
        (shelf.model / "aliases.json").write_text('{"stable": 1, "canary": 2}')
        async with running_server(tmp_path, version_policy="all") as served:
            command = ["--server", f"127.0.0.1:{served.server.port}", "compare", "vae@stable", "vae@canary"]
            how = ["--count", COUNT, "--seed", SEED, *argv]
            code = await asyncio.to_thread(main, [*command, *map(str, how)])
        out, err = capsys.readouterr()
        return code, {line[:20].strip(): line[20:].strip() for line in out.splitlines()}, err

    return compare


async def test_versions_of_the_same_weights_do_not_differ(compare: Compare) -> None:
    code, facts, err = await compare(1, 1, "--threshold", 0)
    assert (code, err) == (0, "")
    assert facts["versions"] == "vae:1 and vae:2"
    assert facts["images"] == f"{COUNT}, seed {SEED}"
    assert facts["mean difference"] == "0.000000, of pixel values 0 to 1"
    assert facts["ELBO shift"] == "+0.0000 nats, on images of vae:1"
    assert facts["threshold"] == "0: within it"


async def test_versions_of_other_weights_are_beyond_the_threshold(compare: Compare) -> None:
    code, facts, err = await compare(1, 2, "--threshold", 0.01)
    assert (code, err) == (3, "")
    noise = NoiseSource().draw(SEED, 0, COUNT, 3, Stream.PRIOR)
    one, other = (TinyModel(seed=seed).images(noise) for seed in (1, 2))
    difference = np.abs(one - other)
    worst = difference.reshape(COUNT, -1).max(axis=1)
    assert float(facts["mean difference"].split(",")[0]) == pytest.approx(difference.mean(), abs=2e-6)
    assert facts["largest difference"].endswith(f"at index {worst.argmax()}")
    assert float(facts["largest difference"].split(",")[0]) == pytest.approx(worst.max(), abs=2e-6)
    assert facts["threshold"] == "0.01: beyond it"


async def test_without_a_threshold_a_difference_is_no_failure(compare: Compare) -> None:
    code, facts, _ = await compare(1, 2)
    assert code == 0
    assert "threshold" not in facts


async def test_a_version_that_draws_what_is_no_number_fails_by_the_first_row_of_it(compare: Compare) -> None:
    code, _, err = await compare(1, 1, "--threshold", 1, edit_canary=break_far_out)
    first = int(np.argmax(NoiseSource().draw(SEED, 0, COUNT, 3, Stream.PRIOR)[:, 0] > EDGE))
    assert (code, f"output image of row {first} is not finite" in err) == (1, True)
