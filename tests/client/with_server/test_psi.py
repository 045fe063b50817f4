"""A decoder's psi through both clients and the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve_client import InvalidArgumentError, Psi
from latentserve_server.latent.noise import NoiseSource, Stream

MODEL = TinyModel(kind="gan", psi=(0.75, 0, 1.5))

Invoke = Callable[..., Awaitable[Any]]
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server of a model with a psi and one without; at most 8 rows a call."""
    MODEL.write(tmp_path / "models" / "styled" / "1")
    TinyModel().write(tmp_path / "models" / "plain" / "1")
    async with running_server(tmp_path / "models", max_rows_per_request=8, max_batch_rows=4) as server:
        yield server


@pytest.fixture
def target(served: RunningServer) -> str:
    """The address of that server."""
    return f"127.0.0.1:{served.server.port}"


def drawn(rows: int, psi: float) -> NDArray[np.float64]:
    return MODEL.images(NoiseSource().draw(9, 0, rows, MODEL.latent_dim, Stream.PRIOR) * np.float32(psi))


async def test_a_sample_has_the_psi_that_is_given(invoke: Invoke) -> None:
    for how, psi in (({}, 0.75), ({"psi": 0.25}, 0.25), ({"psi": 0}, 0.0)):
        samples = await invoke("sample", "styled", 3, seed=9, **how)
        np.testing.assert_allclose(samples.images, drawn(3, psi), atol=1e-5)
    with pytest.raises(InvalidArgumentError, match=r"shaping\.psi: 2\.0; 0\.0 to 1\.5 are allowed"):
        await invoke("sample", "styled", 3, psi=2)
    with pytest.raises(InvalidArgumentError, match=r"shaping\.psi: the model's decoder takes none"):
        await invoke("sample", "plain", 3, psi=0.5)


async def test_a_model_says_what_its_psi_may_be(invoke: Invoke) -> None:
    assert (await invoke("model", "styled")).psi == Psi(default=0.75, least=0.0, most=1.5)
    assert (await invoke("model", "plain")).psi is None


@pytest.mark.parametrize("count", [6, 20])
async def test_the_command_takes_it_and_tells_of_it(run_aside: Run, tmp_path: Path, count: int) -> None:
    output = tmp_path / "a.npy"
    code, _, err = await run_aside("sample", "styled", "--count", count, "--seed", 9, "--psi", 0.25, "-o", output)
    assert (code, err) == (0, "")
    np.testing.assert_allclose(np.load(output), drawn(count, 0.25), atol=1e-5)
    _, told, _ = await run_aside("model", "styled")
    facts = dict(line.split(maxsplit=1) for line in told.splitlines() if not line.startswith(" "))
    assert facts["psi"] == "0 to 1.5, default 0.75"
    assert "\npsi " not in (await run_aside("model", "plain"))[1]
