"""Autoencoders, vector-quantised ones and prior graphs through both clients and the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_kinds import KINDS, write_kinds
from PIL import Image
from running_server import RunningServer, running_server

from latentserve_client import FailedPreconditionError, InvalidArgumentError, PosteriorMeans, RequestError, Seeds
from latentserve_server.latent.noise import NoiseSource, Stream

PICTURES = KINDS["vq"].random_images(10)
CODES = KINDS["vq"].nearest_codes(KINDS["vq"].posterior(PICTURES / 255)[0])

Invoke = Callable[..., Awaitable[Any]]
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    """A server over all kinds; at most 8 rows a call."""
    async with running_server(repository, max_rows_per_request=8, max_batch_rows=4) as server:
        yield server


@pytest.fixture
def target(served: RunningServer) -> str:
    """The address of that server."""
    return f"127.0.0.1:{served.server.port}"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten image files, more than a call takes."""
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path, image in zip(paths, PICTURES, strict=True):
        Image.fromarray(image[0]).save(path)
    return paths


def drawn(name: str, rows: int) -> Any:
    model = KINDS[name]
    made = model.from_noise(NoiseSource().draw(9, 0, rows, model.noise_dim, Stream.PRIOR))
    return model.images(model.embedded(made) if model.codes else made)


async def test_an_autoencoder_gives_latents_and_errors_alone(invoke: Invoke) -> None:
    encoded = await invoke("encode", "plain", PICTURES[:3])
    np.testing.assert_allclose(encoded.mean, KINDS["plain"].posterior(PICTURES[:3] / 255)[0], atol=1e-5)
    assert (encoded.log_variance, encoded.codes, encoded.z) == (None, None, None)
    again = await invoke("reconstruct", "plain", PICTURES[:3])
    scores = await invoke("score", "plain", PICTURES[:3])
    np.testing.assert_array_equal(again.reconstruction_error, scores.reconstruction_error)
    assert (again.kl, scores.kl, scores.elbo, scores.importance_bound) == (None, None, None, None)
    assert (await invoke("reconstruct", "blind", PICTURES[:3])).reconstruction_error is None


async def test_codes_come_and_go(invoke: Invoke) -> None:
    encoded = await invoke("encode", "vq", PICTURES[:3])
    assert (encoded.mean, encoded.log_variance) == (None, None)
    np.testing.assert_array_equal(encoded.codes, CODES[:3], strict=True)
    expected = KINDS["vq"].images(KINDS["vq"].embedded(CODES[:3]))
    for codes in (encoded.codes, encoded.codes.astype(np.int16)):
        np.testing.assert_allclose((await invoke("decode", "vq", codes)).images, expected, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match="latents: row 1 holds code 6; 0 to 5 are allowed"):
        await invoke("decode", "vq", np.array([[0, 0, 0, 0], [0, 0, 6, 0]]))
    with pytest.raises(InvalidArgumentError, match=r"latents: int64 \[1, 3\] where float32 \[n, 3\] is wanted"):
        await invoke("decode", "plain", np.zeros((1, 3), np.int64))
    with pytest.raises(RequestError, match="latents has dtype uint16"):
        await invoke("decode", "vq", CODES.astype(np.uint16))


async def test_what_a_model_lacks_is_an_error_that_says_what_would_help(invoke: Invoke) -> None:
    with pytest.raises(FailedPreconditionError, match="without a prior and cannot sample: a mixture or a prior graph"):
        await invoke("sample", "plain", 1)
    with pytest.raises(FailedPreconditionError, match="draw: model 'plain' is an autoencoder"):
        await invoke("encode", "plain", PICTURES[:2], draw_seed=1)
    with pytest.raises(FailedPreconditionError, match="draws: model 'vq' is a vector-quantised autoencoder"):
        await invoke("score", "vq", PICTURES[:2], draws=2)
    with pytest.raises(FailedPreconditionError, match="no way between two codes"):
        await invoke("interpolate", "drawn", Seeds([1]), Seeds([2]), 2)


async def test_prior_graphs_are_drawn_from(invoke: Invoke) -> None:
    for name in ("blind", "drawn"):
        for prior in (None, "graph"):
            samples = await invoke("sample", name, 5, seed=9, prior=prior)
            np.testing.assert_allclose(samples.images, drawn(name, 5), atol=1e-5)
    with pytest.raises(FailedPreconditionError, match=r"prior: the model's decoder was not made for N\(0, I\)"):
        await invoke("sample", "blind", 1, prior="standard_normal")
    one = PosteriorMeans(PICTURES[:1])
    walk = await invoke("interpolate", "blind", one, Seeds([9]), 2)
    np.testing.assert_allclose(walk.images[1:], drawn("blind", 1), atol=1e-5)


async def test_a_model_says_what_it_is(invoke: Invoke) -> None:
    for name, facts in {
        "plain": ("autoencoder", "", "bernoulli", 3, 0, 0),
        "mixed": ("autoencoder", "mixture", "gaussian", 3, 0, 0),
        "drawn": ("vq", "graph", "", 4, 6, 2),
        "flow": ("vae", "graph", "bernoulli", 3, 0, 4),
        "mapped": ("gan", "standard_normal", "", 3, 0, 2),
    }.items():
        info = await invoke("model", name)
        assert (info.kind, info.prior, info.likelihood, info.latent_dim, info.codes, info.noise_dim) == facts


@pytest.mark.parametrize(
    ("name", "latent", "prior"),
    [
        ("plain", "3 dimensions", "-"),
        ("mixed", "3 dimensions", "a mixture of 3 components"),
        ("normal", "3 dimensions", "standard normal"),
        ("vq", "4 codes of 6", "-"),
        ("drawn", "4 codes of 6", "a graph of noise of 2 dimensions"),
        (
            "flow",
            "3 dimensions",
            "a graph of noise of 4 dimensions, or standard normal, or a mixture of 2 components",
        ),
        ("mapped", "3 dimensions", "standard normal, or a graph of noise of 2 dimensions"),
    ],
)
async def test_the_command_describes_latents_and_priors(run_aside: Run, name: str, latent: str, prior: str) -> None:
    _, out, _ = await run_aside("model", name)
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert (facts["latent"], facts["prior"]) == (latent, prior)


async def test_codes_go_to_a_file_and_back(run_aside: Run, files: list[Path], tmp_path: Path) -> None:
    codes, images = tmp_path / "codes.npy", tmp_path / "images.npy"
    code, out, _ = await run_aside("encode", "vq", *files, "-o", codes)
    assert (code, out.startswith(f"{codes}: 10 latents of 4 codes of 6, as encoded, model vq:1, ")) == (0, True)
    np.testing.assert_array_equal(np.load(codes), CODES, strict=True)
    assert (await run_aside("decode", "vq", codes, "-o", images))[0] == 0
    np.testing.assert_allclose(np.load(images), KINDS["vq"].images(KINDS["vq"].embedded(CODES)), atol=1e-5)
    code, _, err = await run_aside("decode", "plain", codes, "-o", images)
    assert (code, err) == (1, f"latentserve: {codes}: int64 [10, 4]; the model takes float32 [n, 3]\n")
    np.save(codes, CODES.astype(np.float32))
    code, _, err = await run_aside("decode", "vq", codes, "-o", images)
    assert (code, err) == (1, f"latentserve: {codes}: float32 [10, 4]; the model takes int64 [n, 4]\n")


@pytest.mark.parametrize(
    ("name", "told"),
    [("plain", "mean error {:.1f} nats"), ("vq", "mean error {:.1f} nats"), ("blind", "no likelihood")],
)
async def test_a_reconstruction_tells_the_costs_that_there_are(
    run_aside: Run, invoke: Invoke, files: list[Path], tmp_path: Path, name: str, told: str
) -> None:
    errors = [(await invoke("reconstruct", name, part)).reconstruction_error for part in (PICTURES[:5], PICTURES[5:])]
    code, out, _ = await run_aside("reconstruct", name, *files, "-o", tmp_path / "pairs.png")
    cost = told.format(np.concatenate(errors).mean()) if errors[0] is not None else told
    assert (code, f": 10 reconstructions, {cost}, model {name}:1" in out) == (0, True)


async def test_scores_have_the_columns_that_there_are(run_aside: Run, files: list[Path]) -> None:
    code, out, _ = await run_aside("score", "vq", *files, "--csv")
    assert (code, list(csv.DictReader(io.StringIO(out)).fieldnames or ())) == (0, ["image", "reconstruction_error"])
    _, out, _ = await run_aside("score", "plain", *files)
    assert out.splitlines()[0].split() == ["image", "(nats)", "reconstruction_error"]
    code, _, err = await run_aside("score", "blind", *files)
    assert (code, "model 'blind' is an autoencoder without a likelihood and cannot score" in err) == (1, True)


async def test_the_list_of_models_shows_what_each_can(run_aside: Run) -> None:
    _, out, _ = await run_aside("models")
    able = {line.split()[0]: line.split()[5] for line in out.splitlines()[1:]}
    assert (able["vq"], able["blind"]) == ("encode,decode,reconstruct,score", "sample,encode,decode,reconstruct")


async def test_autoencoders_are_compared_by_their_likelihood(run_aside: Run) -> None:
    code, out, _ = await run_aside("compare", "mixed", "mixed", "--count", 20)
    facts = [line.rsplit("  ", 1) for line in out.splitlines()]
    assert (code, [value.strip() for name, value in facts if name.startswith("log-likelihood shift")]) == (
        0,
        ["+0.0000 nats, on images of mixed:1"],
    )
    code, _, err = await run_aside("compare", "mixed", "normal")
    assert (code, "cannot be compared: prior mixture and standard_normal" in err) == (1, True)
