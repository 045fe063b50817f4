"""The four calls answer with the numbers that the weights say, in every form of image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from running_server import RunningServer
from tested_device import tolerance
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NOISE_SCHEME, NoiseSource, Stream

VAE, COLOUR, GAN = (pb.ModelRef(name=name) for name in ("vae", "colour", "gan"))
FLOAT32, UINT8, PNG = (
    pb.Output(format=form) for form in (pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_UINT8, pb.IMAGE_FORMAT_PNG)
)


def latents(rows: int, dim: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((rows, dim)).astype(np.float32)


def tensor_images(array: NDArray[Any]) -> pb.Images:
    return pb.Images(tensor=from_ndarray(array))


def files(images: NDArray[np.uint8], form: str = "PNG") -> list[bytes]:
    written = []
    for image in images:
        pixels = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        written.append(file.getvalue())
    return written


def encoded_images(images: NDArray[np.uint8], form: str = "PNG") -> pb.Images:
    return pb.Images(encoded=pb.EncodedImages(files=files(images, form)))


def open_files(images: pb.Images) -> NDArray[np.uint8]:
    """The pixels of PNG files, [n, channels, height, width]."""
    opened = []
    for data in images.encoded.files:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            pixels = np.asarray(file)
        opened.append(np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None])
    return np.stack(opened)


async def test_decode_is_the_decoder_of_the_weights(
    served: RunningServer, vae: TinyModel, colour_vae: TinyModel
) -> None:
    for ref, model in ((VAE, vae), (COLOUR, colour_vae)):
        z = latents(20, model.latent_dim)  # more rows than a batch has
        reply = await served.generation.Decode(pb.DecodeRequest(model=ref, latents=from_ndarray(z)))
        images = to_ndarray(reply.images.tensor)
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, model.images(z), rtol=0, atol=tolerance(1e-6))


@pytest.mark.parametrize("ref", [VAE, COLOUR, GAN], ids=lambda ref: ref.name)
async def test_uint8_and_png_are_the_float_image_on_256_levels(served: RunningServer, ref: pb.ModelRef) -> None:
    forms = {}
    for output in (pb.Output(), FLOAT32, UINT8, PNG):
        request = pb.SampleRequest(model=ref, count=10, seed=5, output=output)
        forms[output.format] = (await served.generation.Sample(request)).images
    floats = to_ndarray(forms[pb.IMAGE_FORMAT_FLOAT32].tensor)
    levels = to_ndarray(forms[pb.IMAGE_FORMAT_UINT8].tensor)
    assert forms[pb.IMAGE_FORMAT_UNSPECIFIED] == forms[pb.IMAGE_FORMAT_FLOAT32]
    assert levels.dtype == np.uint8
    assert np.abs(levels - 255 * floats.astype(np.float64)).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(open_files(forms[pb.IMAGE_FORMAT_PNG]), levels)


async def test_sample_decodes_the_noise_of_seed_and_index(served: RunningServer, vae: TinyModel) -> None:
    reply = await served.generation.Sample(pb.SampleRequest(model=VAE, count=12, seed=9, first_index=4))
    noise = NoiseSource().draw(9, 4, 12, vae.latent_dim, Stream.PRIOR)
    np.testing.assert_allclose(to_ndarray(reply.images.tensor), vae.images(noise), rtol=0, atol=tolerance(1e-6))
    assert (reply.seed, reply.noise_scheme) == (9, NOISE_SCHEME)


async def test_encode_is_the_posterior_of_the_weights(served: RunningServer, colour_vae: TinyModel) -> None:
    x = colour_vae.random_images(20) / np.float32(255)
    reply = await served.generation.Encode(pb.EncodeRequest(model=COLOUR, images=tensor_images(x)))
    mean, log_variance = colour_vae.posterior(x)
    np.testing.assert_allclose(to_ndarray(reply.mean), mean, rtol=tolerance(1e-5), atol=tolerance(1e-5))
    np.testing.assert_allclose(to_ndarray(reply.log_variance), log_variance, rtol=tolerance(1e-5), atol=tolerance(1e-5))
    assert not reply.HasField("z")
    assert not reply.HasField("seed")
    assert reply.noise_scheme == ""


async def test_encode_draws_from_the_posterior_with_the_noise_of_its_own_stream(served: RunningServer) -> None:
    x = np.random.default_rng(0).random((6, 3, 4, 5), np.float32)
    draw = pb.Draw(seed=2**64 - 1, first_index=2**48 - 6)
    reply = await served.generation.Encode(pb.EncodeRequest(model=COLOUR, images=tensor_images(x), draw=draw))
    noise = NoiseSource().draw(2**64 - 1, 2**48 - 6, 6, 4, Stream.POSTERIOR)
    expected = to_ndarray(reply.mean) + np.exp(to_ndarray(reply.log_variance) / 2) * noise
    np.testing.assert_allclose(to_ndarray(reply.z), expected, rtol=1e-6, atol=1e-6)
    assert (reply.seed, reply.noise_scheme) == (2**64 - 1, NOISE_SCHEME)


async def test_a_seed_that_the_server_draws_is_told_and_gives_the_same_again(served: RunningServer) -> None:
    first, second = [await served.generation.Sample(pb.SampleRequest(model=VAE, count=3)) for _ in range(2)]
    assert first.seed != second.seed
    again = await served.generation.Sample(pb.SampleRequest(model=VAE, count=3, seed=first.seed))
    assert again.images == first.images
    x = tensor_images(np.zeros((2, 1, 4, 5), np.float32))
    drawn = await served.generation.Encode(pb.EncodeRequest(model=VAE, images=x, draw=pb.Draw()))
    redrawn = await served.generation.Encode(pb.EncodeRequest(model=VAE, images=x, draw=pb.Draw(seed=drawn.seed)))
    assert redrawn.z == drawn.z


async def test_seed_zero_is_a_seed(served: RunningServer) -> None:
    reply = await served.generation.Sample(pb.SampleRequest(model=VAE, count=1, seed=0))
    assert reply.seed == 0


async def test_reconstruct_is_the_decoded_mean_and_its_cost_in_nats(
    served: RunningServer, vae: TinyModel, colour_vae: TinyModel
) -> None:
    for ref, model in ((VAE, vae), (COLOUR, colour_vae)):
        x = model.random_images(20) / np.float32(255)
        reply = await served.generation.Reconstruct(pb.ReconstructRequest(model=ref, images=tensor_images(x)))
        mean, log_variance = model.posterior(x)
        p = model.images(mean)
        error = -(x * np.log(p) + (1 - x.astype(np.float64)) * np.log1p(-p)).sum(axis=(1, 2, 3))
        kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
        np.testing.assert_allclose(to_ndarray(reply.images.tensor), p, rtol=0, atol=tolerance(1e-5))
        np.testing.assert_allclose(reply.reconstruction_error, error, rtol=1e-4)
        np.testing.assert_allclose(reply.kl, kl, rtol=1e-4)


@pytest.mark.parametrize("output", [UINT8, PNG], ids=["uint8", "png"])
async def test_reconstruct_gives_every_form_of_image_and_the_same_cost(
    served: RunningServer, output: pb.Output
) -> None:
    x = tensor_images(np.random.default_rng(0).random((9, 3, 4, 5), np.float32))
    plain = await served.generation.Reconstruct(pb.ReconstructRequest(model=COLOUR, images=x))
    reply = await served.generation.Reconstruct(pb.ReconstructRequest(model=COLOUR, images=x, output=output))
    levels = open_files(reply.images) if output is PNG else to_ndarray(reply.images.tensor)
    assert np.abs(levels - 255 * to_ndarray(plain.images.tensor).astype(np.float64)).max() <= 0.5 + 1e-4
    assert (reply.kl, reply.reconstruction_error) == (plain.kl, plain.reconstruction_error)


@pytest.mark.parametrize("name", ["vae", "colour"])
async def test_every_form_of_input_is_read_as_the_same_pixels(
    served: RunningServer, vae: TinyModel, colour_vae: TinyModel, name: str
) -> None:
    pixels = {"vae": vae, "colour": colour_vae}[name].random_images(5)
    forms = (tensor_images(pixels), tensor_images(pixels / np.float32(255)), encoded_images(pixels))
    means = [
        (await served.generation.Encode(pb.EncodeRequest(model=pb.ModelRef(name=name), images=form))).mean
        for form in forms
    ]
    assert means[0] == means[1] == means[2]


@pytest.mark.parametrize("name", ["vae", "colour"])
async def test_a_jpeg_is_read_as_the_pixels_that_it_unpacks_to(
    served: RunningServer, vae: TinyModel, colour_vae: TinyModel, name: str
) -> None:
    images = encoded_images({"vae": vae, "colour": colour_vae}[name].random_images(3), "JPEG")
    unpacked = [np.asarray(Image.open(io.BytesIO(data))) for data in images.encoded.files]
    pixels = np.stack([np.moveaxis(np.atleast_3d(image), -1, 0) for image in unpacked])
    ref = pb.ModelRef(name=name)
    from_files = await served.generation.Encode(pb.EncodeRequest(model=ref, images=images))
    from_pixels = await served.generation.Encode(pb.EncodeRequest(model=ref, images=tensor_images(pixels)))
    assert from_files.mean == from_pixels.mean


async def test_files_of_another_colour_are_converted_to_the_models(served: RunningServer, vae: TinyModel) -> None:
    grey = vae.random_images(2)
    rgb = np.repeat(grey, 3, axis=1)
    for ref, wanted, sent in ((VAE, grey, rgb), (COLOUR, rgb, grey)):
        replies = [
            await served.generation.Encode(pb.EncodeRequest(model=ref, images=encoded_images(images)))
            for images in (wanted, sent)
        ]
        assert replies[0].mean == replies[1].mean


async def test_seeds_that_the_server_draws_differ_and_are_numbers_that_a_double_holds(served: RunningServer) -> None:
    sampled = [await served.generation.Sample(pb.SampleRequest(model=VAE, count=1)) for _ in range(20)]
    stream = served.generation.StreamSamples(pb.StreamSamplesRequest(model=VAE, count=1))
    drawn = pb.EncodeRequest(model=VAE, images=tensor_images(np.zeros((1, 1, 4, 5), np.uint8)), draw=pb.Draw())
    encoded = [await served.generation.Encode(drawn) for _ in range(20)]
    seeds = [reply.seed for reply in (*sampled, *encoded)] + [chunk.seed async for chunk in stream]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**53
