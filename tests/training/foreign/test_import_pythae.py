"""A model of pythae, exported by its own means, imported and served: the calls answer what pythae computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from running_server import running_server

from latentserve_client import AsyncClient
from latentserve_training import commands

SCRIPT = Path(__file__).parents[2] / "support" / "training" / "pythae_export.py"
LIBRARY = Path(sys.prefix) / "pythae"
DESCRIPTION = """
kind: vae
latent_dim: 4
likelihood: bernoulli
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: embedding
  log_variance: log_covariance
family: pythae VAE
dataset: digits
"""

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="pythae is not installed; `make test` installs it")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pythae's user has."""
    folder = tmp_path_factory.mktemp("pythae")
    # Behind the environment's own packages, whose versions win.
    start = (
        f"import sys, runpy; sys.path.append({str(LIBRARY)!r}); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", start, folder], check=True, capture_output=True, env={**os.environ})
    (folder / "model.yaml").write_text(DESCRIPTION)
    return folder


async def test_a_model_of_pythae_is_served_with_its_own_numbers(exported: Path, tmp_path: Path) -> None:
    assert (
        commands.import_model([str(exported / "model.yaml"), "--repository", str(tmp_path), "--name", "foreign"]) == 0
    )
    with np.load(exported / "expected.npz") as archive:
        expected: dict[str, NDArray[np.float32]] = dict(archive)
    async with running_server(tmp_path) as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        posterior = await client.encode("foreign", expected["images"])
        reconstruction = await client.reconstruct("foreign", expected["images"])
        decoded = await client.decode("foreign", np.eye(4, dtype=np.float32))
        sampled = await client.sample("foreign", 5, seed=1)
    np.testing.assert_allclose(posterior.mean, expected["mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(posterior.log_variance, expected["log_variance"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(reconstruction.images, expected["reconstruction"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(decoded.images, expected["drawn"], rtol=0, atol=1e-5)
    x, p = expected["images"].astype(np.float64), expected["reconstruction"].astype(np.float64)
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(reconstruction.reconstruction_error, cross_entropy, rtol=1e-4)
    assert sampled.images.shape == (5, 1, 8, 8)
