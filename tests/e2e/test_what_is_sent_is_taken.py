"""What a server sends, it takes back, saturated pixels too: by gRPC, the Open Inference Protocol and the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference_requests import arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import Golden, TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_client import AsyncClient

SIGMOID = [17.844, 17.857412, 17.868923, 17.87294, 17.89196, 17.89684]
"""Where the Sigmoid of onnxruntime 1.31 is 1 + 2^-23."""
TANH = [8.47554, 8.551095, 8.574787, 8.60055, 8.618438, 8.996803]
"""Where its Tanh is 1 + 2^-22, so that half of 1 more is 1 + 2^-23."""
MODELS = {
    "bernoulli": TinyModel(direct=True),
    "gaussian": TinyModel(direct=True, likelihood="gaussian"),
    "logistic": TinyModel(direct=True, likelihood="discretized_logistic", channels=3),
    "tanh": TinyModel(direct=True, likelihood="gaussian", activation="tanh"),
    "clipped": TinyModel(direct=True, activation="clipped"),
}
FORMATS = [pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_FLOAT16, pb.IMAGE_FORMAT_UINT8, pb.IMAGE_FORMAT_PNG]

Float = NDArray[np.float32]
Run = Callable[[Callable[[RunningServer], Awaitable[Any]]], Any]

VALUES = st.sampled_from([*SIGMOID, *TANH, *(-value for value in TANH), 100.0, -100.0]) | st.floats(-30, 30, width=32)
LATENTS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4).map(
    lambda rows: np.array(rows, np.float32)
)
EVERY = np.array([*SIGMOID, *TANH], np.float32).reshape(4, 3)


def saturate(golden: Golden) -> None:
    """Golden rows whose image onnxruntime computes as more than 1."""
    golden["decoder.latent"] = latents = np.array([SIGMOID[:3], SIGMOID[3:], [9, -9, 1]], np.float32)
    golden["decoder.logits"] = logits = MODELS["bernoulli"].logits(latents).astype(np.float32)
    golden["decoder.image"] = image = (1 / (1 + np.exp(-logits))).astype(np.float32)
    golden["decoder.image_uint8"] = np.rint(255 * image).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a scenario against a server that lives as long as the tests of this file do, for many examples."""
    root = tmp_path_factory.mktemp("models")
    for name, model in MODELS.items():
        model.write(root / name / "1", **({"edit_golden": saturate} if name == "bernoulli" else {}))
    TinyModel(kind="gan", direct=True, activation="tanh").write(root / "gan" / "1")
    with asyncio.Runner() as runner:
        context = running_server(root)
        server = runner.run(context.__aenter__())
        yield lambda scenario: runner.run(scenario(server))  # type: ignore[arg-type]
        runner.run(context.__aexit__(None, None, None))


def within_range(images: NDArray[Any]) -> bool:
    return images.dtype == np.uint8 or bool((images >= 0).all() and (images <= 1).all())


@pytest.mark.slow
@settings(max_examples=40)
@given(st.sampled_from(list(MODELS)), LATENTS, st.sampled_from(FORMATS))
@example("bernoulli", EVERY, pb.IMAGE_FORMAT_FLOAT32)
@example("tanh", EVERY, pb.IMAGE_FORMAT_FLOAT32)
def test_images_of_every_form_come_back(run: Run, name: str, latents: Float, form: pb.ImageFormat) -> None:
    model, output = pb.ModelRef(name=name), pb.Output(format=form)

    async def scenario(served: RunningServer) -> None:
        shaping = pb.Shaping(temperature=4)
        call = served.generation
        sampled = await call.Sample(pb.SampleRequest(model=model, count=4, output=output, shaping=shaping))
        decoded = await call.Decode(pb.DecodeRequest(model=model, latents=from_ndarray(latents), output=output))
        for images in (sampled.images, decoded.images):
            encoded = await call.Encode(pb.EncodeRequest(model=model, images=images, draw=pb.Draw()))
            await call.Decode(pb.DecodeRequest(model=model, latents=encoded.mean))
            await call.Decode(pb.DecodeRequest(model=model, latents=encoded.z))
            request = pb.ReconstructRequest(model=model, images=images, output=output)
            reconstructed = await call.Reconstruct(request)
            await call.Score(pb.ScoreRequest(model=model, images=reconstructed.images))
            await call.Score(pb.ScoreRequest(model=model, images=images, draws=2))
            points = {"from": pb.Points(images=images), "to": pb.Points(images=reconstructed.images)}
            await call.Interpolate(pb.InterpolateRequest(model=model, steps=2, **points))
            if images.HasField("tensor"):
                assert within_range(to_ndarray(images.tensor))

    run(scenario)


@settings(max_examples=20)
@given(st.sampled_from(list(MODELS)), LATENTS, st.booleans())
@example("bernoulli", EVERY, True)
@example("tanh", EVERY, False)
def test_tensors_of_the_open_inference_protocol_come_back(run: Run, name: str, latents: Float, raw: bool) -> None:
    async def scenario(served: RunningServer) -> None:
        stub = stub_of(served)
        drawn = arrays_of(await stub.ModelInfer(infer_request(name, "latent", latents, "image", "image_uint8")))
        for image in drawn.values():
            assert within_range(image)
            encoded = arrays_of(await stub.ModelInfer(infer_request(f"{name}.encoder", "image", image, raw=raw)))
            again = arrays_of(await stub.ModelInfer(infer_request(f"{name}.reconstruct", "image", image, raw=raw)))
            await stub.ModelInfer(infer_request(f"{name}.encoder", "image", again["image"], raw=raw))
            await stub.ModelInfer(infer_request(name, "latent", encoded["mean"], raw=raw))

    run(scenario)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.sampled_from(list(MODELS)), LATENTS, st.sampled_from(["float32", "float16", "uint8", "webp"]))
@example("bernoulli", EVERY, "float32")
@example("tanh", EVERY, "float32")
def test_the_client_sends_back_what_it_got(run: Run, name: str, latents: Float, form: Any) -> None:
    async def scenario(served: RunningServer) -> None:
        async with AsyncClient(f"127.0.0.1:{served.server.port}") as client:
            decoded = await client.decode(name, latents, format=form)
            sampled = await client.sample(name, 3, temperature=4.0, format=form)
            for result in (decoded, sampled):
                images = result.files if form == "webp" else result.images
                posterior = await client.encode(name, images, draw_seed=1)
                from_means = await client.decode(name, posterior.mean, format=form)
                again = await client.reconstruct(name, images, format=form)
                reconstructed = again.files if form == "webp" else again.images
                scored = await client.score(name, reconstructed)
                assert len(posterior.mean) == len(images) == len(scored.elbo)
                assert np.isfinite(scored.elbo).all()
                np.testing.assert_array_equal(reconstructed, from_means.files if form == "webp" else from_means.images)

    run(scenario)


@pytest.mark.parametrize("beyond", [1 + 2**-23, 1 + 2**-21, -(2.0**-21), -(2.0**-30)])
def test_rounding_beyond_the_range_means_the_bound(run: Run, beyond: float) -> None:
    """Such as another server, or an older one, sends it."""
    model, bound = pb.ModelRef(name="gaussian"), float(beyond > 0.5)

    def images(value: float) -> Float:
        return np.full((2, 1, 4, 5), value, np.float32)

    async def scenario(served: RunningServer) -> None:
        scores, means = [], []
        for value in (beyond, bound):
            tensor = pb.Images(tensor=from_ndarray(images(value)))
            scores.append(list((await served.generation.Score(pb.ScoreRequest(model=model, images=tensor))).elbo))
            reply = await stub_of(served).ModelInfer(infer_request("gaussian.encoder", "image", images(value)))
            means.append(arrays_of(reply)["mean"].tolist())
        assert scores[0] == scores[1]
        assert means[0] == means[1]

    run(scenario)


def test_a_gan_s_saturated_images_lie_within_the_range(run: Run) -> None:
    async def scenario(served: RunningServer) -> None:
        request = pb.DecodeRequest(model=pb.ModelRef(name="gan"), latents=from_ndarray(EVERY))
        images = to_ndarray((await served.generation.Decode(request)).images.tensor)
        assert images.max() == 1
        assert within_range(images)

    run(scenario)
