"""Models that were exported here are served on other processors: which bits are the same there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from processors import emulator
from tiny_bundle import TinyModel

MODELS = {
    "linear": TinyModel(),
    "conv": TinyModel(conv=True, channels=3, height=16, width=16, latent_dim=16, seed=5),
    "gan": TinyModel(kind="gan", conv=True, channels=3, height=9, width=7, latent_dim=7, seed=6),
    "scaled": TinyModel(likelihood="discretized_logistic", seed=8),
}
PROMISED = ("sampled", "mean", "log_variance")
"""What is promised to the bit."""

Answers = Callable[..., dict[str, NDArray[Any]]]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, model in MODELS.items():
        model.write(root / name / "1")
    return root


@pytest.fixture(scope="session")
def answers(repository: Path) -> Answers:
    """What the models answer with the numerics on a processor of QEMU's, or on this machine's own; asked once."""
    return cache(
        lambda numerics, processor=None: emulator.run("serve_models.py", repository, numerics, processor=processor)
    )


@pytest.mark.parametrize("numerics", ["fast", "portable"])
def test_models_are_served_and_answer_as_they_do_here(answers: Answers, processor: str, numerics: str) -> None:
    here, there = answers(numerics), answers(numerics, processor)
    assert {str(there[f"{name}.row_bits"]) for name in MODELS} == {"ROW_BITS_BATCH_INVARIANT"}
    assert there.keys() == here.keys()
    for what, array in here.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(there[what], array, rtol=1e-4, atol=1e-5, err_msg=what)


def test_portable_bits_are_the_same_with_fma(answers: Answers) -> None:
    if not {"avx2", "fma"} <= emulator.native_flags():
        pytest.skip("this machine's own processor has no FMA")
    here, there = answers("portable"), answers("portable", emulator.AVX2)
    for key in here:
        if key.rpartition(".")[2] in ("numerics", *PROMISED):
            np.testing.assert_array_equal(there[key], here[key], err_msg=key)


@pytest.mark.parametrize("numerics", ["fast", "portable"])
def test_where_fingerprints_are_the_same_bits_are(answers: Answers, processor: str, numerics: str) -> None:
    here, there = answers(numerics), answers(numerics, processor)
    same = [name for name in MODELS if there[f"{name}.numerics"] == here[f"{name}.numerics"]]
    for key in (f"{name}.{what}" for name in same for what in PROMISED):
        if key in here:
            np.testing.assert_array_equal(there[key], here[key], err_msg=key)
