"""Labels, priors and percentiles through both clients and the command line, from a real server over real bundles."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2 as pb
from latentserve_client import Axis, FailedPreconditionError, InvalidArgumentError, RequestError, Seeds
from latentserve_server.latent.labels import Labels
from latentserve_server.latent.noise import NoiseSource, Stream
from latentserve_server.latent.prior import Mixture, Prior, PriorSource, SamplingSpec

FULL = TinyModel(labels=4, components=3, quantiles=tuple(np.linspace(-40.0, 300.0, 101)), likelihood="gaussian", seed=5)
PIXELS = FULL.random_images(6)
LATENTS = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)
EACH = [3, 0, 1, 1, 2, 0]

Invoke = Callable[..., Awaitable[Any]]
Run = Callable[..., Awaitable[tuple[int, str, str]]]


def name_labels(manifest: pb.Manifest) -> None:
    manifest.labels.names.extend(["north", "east", "south", "west"])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server over "full", which has everything, and "vae", which has nothing; at most 8 rows a call."""
    FULL.write(tmp_path / "models" / "full" / "1", edit_manifest=name_labels)
    TinyModel().write(tmp_path / "models" / "vae" / "1")
    async with running_server(tmp_path / "models", max_rows_per_request=8, max_batch_rows=4) as server:
        yield server


@pytest.fixture
def target(served: RunningServer) -> str:
    """The address of that server."""
    return f"127.0.0.1:{served.server.port}"


def mixed(count: int, first: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    arrays = FULL.mixture()
    mixture = Mixture(arrays["weights"], arrays["means"], arrays["factors"])
    return PriorSource(NoiseSource(), 3, mixture).draw(9, first, count, SamplingSpec(Prior.MIXTURE))


@pytest.mark.parametrize("labels", [None, 2, [3, 1], np.array([1, 2, 0])])
async def test_samples_have_the_labels_that_were_asked_for(invoke: Invoke, labels: Any) -> None:
    samples = await invoke("sample", "full", 7, seed=9, first_index=3, prior="mixture", labels=labels)
    given = () if labels is None else tuple(np.atleast_1d(labels).tolist())
    expected = Labels(given, 4).of_indices(3, 7)
    np.testing.assert_array_equal(samples.labels, expected, strict=True)
    np.testing.assert_allclose(samples.images, FULL.images(mixed(7, 3), expected), atol=1e-6)


async def test_an_ordinary_model_has_no_labels_and_the_standard_normal_prior(invoke: Invoke) -> None:
    samples = await invoke("sample", "vae", 5, seed=9, prior="standard_normal")
    assert samples.labels is None
    noise = NoiseSource().draw(9, 0, 5, 3, Stream.PRIOR)
    np.testing.assert_allclose(samples.images, TinyModel().images(noise), atol=1e-6)


async def test_every_call_takes_labels(invoke: Invoke) -> None:
    each, pixels = np.array(EACH), PIXELS / 255
    mean, _ = FULL.posterior(pixels, each)
    decoded = await invoke("decode", "full", LATENTS, labels=EACH)
    np.testing.assert_allclose(decoded.images, FULL.images(LATENTS, each), atol=1e-6)
    encoded = await invoke("encode", "full", PIXELS, labels=each)
    np.testing.assert_allclose(encoded.mean, mean, atol=1e-5)
    again = await invoke("reconstruct", "full", PIXELS, labels=EACH)
    np.testing.assert_allclose(again.images, FULL.images(mean, each), atol=1e-5)
    walk = await invoke("interpolate", "full", LATENTS[:2], Seeds([1, 2]), 3, labels=[1, 2])
    np.testing.assert_allclose(walk.images, FULL.images(walk.latents, np.repeat([1, 2], 3)), atol=1e-6)
    plane = await invoke("traverse", "full", [Axis(0, -1, 1, 4)], labels=3)
    np.testing.assert_allclose(plane.images, FULL.images(plane.latents, np.full(4, 3)), atol=1e-6)


async def test_scores_have_percentiles_where_the_model_is_calibrated(invoke: Invoke) -> None:
    scores = await invoke("score", "full", PIXELS, labels=EACH)
    expected = np.interp(-scores.elbo, FULL.quantiles, np.arange(101))
    np.testing.assert_allclose(scores.anomaly_percentile, expected, rtol=1e-5)
    assert (await invoke("score", "full", PIXELS[:2], labels=1, draws=3)).anomaly_percentile is None
    assert (await invoke("score", "vae", PIXELS)).anomaly_percentile is None


async def test_what_the_model_does_not_have_is_refused(invoke: Invoke) -> None:
    with pytest.raises(FailedPreconditionError, match=r"^prior: "):
        await invoke("sample", "vae", 1, prior="mixture")
    with pytest.raises(InvalidArgumentError, match=r"^labels: "):
        await invoke("sample", "vae", 1, labels=0)
    with pytest.raises(InvalidArgumentError, match=r"^labels: "):
        await invoke("decode", "full", LATENTS)


async def test_a_description_says_what_the_model_has(invoke: Invoke) -> None:
    full, vae = await invoke("model", "full"), await invoke("model", "vae")
    assert (full.likelihood, full.labels, full.label_names[1]) == ("gaussian", 4, "east")
    assert (full.mixture_components, full.calibration_images) == (3, 500)
    assert (vae.likelihood, vae.labels, vae.label_names) == ("bernoulli", 0, ())
    assert (vae.mixture_components, vae.calibration_images) == (0, 0)


async def test_the_command_describes_it(run_aside: Run) -> None:
    _, out, _ = await run_aside("model", "full")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert facts["prior"] == "standard normal, or a mixture of 3 components"
    assert facts["labels"] == "0 to 3: north, east, south, west"
    assert (facts["likelihood"], facts["calibration"]) == ("gaussian", "500 images")
    _, out, _ = await run_aside("model", "vae")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert (facts["prior"], facts["labels"], facts["calibration"]) == ("standard normal", "-", "-")


async def test_the_command_samples_labels_from_the_mixture_also_as_a_stream(run_aside: Run, tmp_path: Path) -> None:
    output = tmp_path / "samples.npy"
    how = ("--count", 20, "--seed", 9, "--prior", "mixture", "--labels", "3,1,2")
    code, out, err = await run_aside("sample", "full", *how, "-o", output)
    assert (code, err) == (0, "")
    assert "20 images, seed 9, mixture prior, model full:1" in out
    labels = np.resize([3, 1, 2], 20)
    np.testing.assert_allclose(np.load(output), FULL.images(mixed(20), labels), atol=1e-6)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten image files, more than a call takes."""
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path, image in zip(paths, FULL.random_images(10), strict=True):
        Image.fromarray(image[0]).save(path)
    return paths


async def test_the_command_scores_with_a_label_each_and_a_column_of_percentiles(
    run_aside: Run, files: list[Path]
) -> None:
    labels = [*EACH, 1, 2, 3, 0]
    given = ",".join(map(str, labels))
    code, out, err = await run_aside("score", "full", *files, "--labels", given, "--csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    elbo = np.array([float(row["elbo"]) for row in rows])
    percentiles = [float(row["anomaly_percentile"]) for row in rows]
    np.testing.assert_allclose(percentiles, np.interp(-elbo, FULL.quantiles, np.arange(101)), rtol=1e-4)
    _, out, _ = await run_aside("score", "full", files[8], "--labels", 3)
    assert f"{elbo[8]:.2f}" in out
    assert out.split()[:6] == ["image", "(nats)", "reconstruction_error", "kl", "elbo", "anomaly_percentile"]


async def test_the_commands_on_files_take_labels(run_aside: Run, files: list[Path], tmp_path: Path) -> None:
    labels = np.array([*EACH, 1, 2, 3, 0])
    given = ("--labels", ",".join(map(str, labels)))
    latents, images = tmp_path / "z.npy", tmp_path / "x.npy"
    assert (await run_aside("encode", "full", *files, *given, "-o", latents))[0] == 0
    mean, _ = FULL.posterior(FULL.random_images(10) / 255, labels)
    np.testing.assert_allclose(np.load(latents), mean, atol=1e-5)
    for command in (["decode", "full", latents], ["reconstruct", "full", *files]):
        assert (await run_aside(*command, *given, "-o", images))[0] == 0
        np.testing.assert_allclose(np.load(images), FULL.images(mean, labels), atol=1e-5)
    ways = ("--from-seed", 1, "--to-seed", 2, "--steps", 3)
    for walk in (["interpolate", "full", *ways], ["traverse", "full", "--axis", "0:-1:1:3"]):
        assert (await run_aside(*walk, "--labels", 2, "-o", images))[0] == 0
        code, _, err = await run_aside(*walk, "-o", images)
        assert (code, "labels: " in err) == (1, True)


async def test_a_number_of_labels_that_fits_no_rows_is_refused_before_anything_is_sent(
    run_aside: Run, files: list[Path], served: RunningServer
) -> None:
    code, _, err = await run_aside("score", "full", *files, "--labels", "1,2,3")
    assert (code, err) == (2, "latentserve: labels has 3 labels for 10 rows; give one, or one for each\n")
    code, _, err = await run_aside("score", "full", *files, "--labels", "1,x")
    assert (code, "label 'x': " in err) == (2, True)


async def test_versions_of_a_conditional_model_are_compared_label_by_label(run_aside: Run) -> None:
    code, out, err = await run_aside("compare", "full", "full:1", "--count", 12, "--threshold", 0)
    assert (code, err) == (0, "")
    assert "+0.0000 nats" in out
    code, _, err = await run_aside("compare", "full", "vae", "--count", 12)
    assert (code, err) == (1, "latentserve: full:1 and vae:1 cannot be compared: labels 4 and 0\n")


async def test_the_command_takes_the_names_of_labels(run_aside: Run, tmp_path: Path, files: list[Path]) -> None:
    by_name, by_number = tmp_path / "name.npy", tmp_path / "number.npy"
    how = ("sample", "full", "--count", 6, "--seed", 9)
    assert (await run_aside(*how, "--label", "west,0,south", "-o", by_name))[0] == 0
    assert (await run_aside(*how, "--labels", "3,0,2", "-o", by_number))[0] == 0
    np.testing.assert_array_equal(np.load(by_name), np.load(by_number))
    scores = [await run_aside("score", "full", *files, "--label", label) for label in ("east", 1)]
    assert scores[0] == scores[1]
    code, _, err = await run_aside(*how, "--label", "up", "-o", by_name)
    assert (code, "label 'up': " in err) == (2, True)


async def test_a_label_has_a_number_and_a_name(invoke: Invoke) -> None:
    full = await invoke("model", "full")
    assert [full.label(name) for name in full.label_names] == [0, 1, 2, 3]
    vae = await invoke("model", "vae")
    for model, name, has in ((full, "1", "north, east, south, west"), (vae, "north", "no labels; give none")):
        with pytest.raises(RequestError) as caught:
            model.label(name)
        assert str(caught.value) == f"label '{name}': the model has {has}"


async def test_a_model_as_text_fits_a_screen(invoke: Invoke) -> None:
    text = str(await invoke("model", "full"))
    assert text.startswith("ModelInfo(name='full', version=1")
    assert len(text) < 24 * 80
