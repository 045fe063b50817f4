"""Requests to encode, decode, reconstruct and score."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.contract import MAX_INDEX
from latentserve.v1 import generation_pb2
from latentserve_client._calls import replies
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import (
    MAX_SEED,
    MAX_UINT32,
    build_labels,
    build_priority,
    build_ref,
    build_seed,
    integer,
)
from latentserve_client._calls.payload import build_images, build_latents_or_codes, build_output, count_images
from latentserve_client.errors import RequestError
from latentserve_client.inputs import CodesLike, Format, ImagesLike, LabelsLike, LatentsLike, Priority
from latentserve_client.models import ModelLike
from latentserve_client.results import Decoded, Posterior, Reconstruction, Scores


def encode(
    model: ModelLike,
    images: ImagesLike,
    *,
    draw_seed: int | None = None,
    first_index: int = 0,
    resize: bool = False,
    labels: LabelsLike | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Posterior]:
    """Give the posterior q(z|x) of each image and, with `draw_seed`, a latent drawn from each.

    Of an autoencoder, give its latents, and of a vector-quantised one its codes; there is nothing to draw from.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        images: [n, channels, height, width], float32 or float16 in the model's value range or uint8 from 0 to 255, or
            a list of the bytes of n PNG, JPEG, WebP, GIF or BMP files. float64 is converted to float32.
        draw_seed: any uint64; the draw of row i uses the noise at first_index + i of its sequence. None is drawn unless
            given.
        first_index: the index of the first row's noise, 0 to 2^48 - n; only with draw_seed.
        resize: whether files of any size are brought to the model's, as its manifest says; refused unless it is set.
        labels: of a conditional model, which demands them, from 0: one for all images, or one for each.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    request = generation_pb2.EncodeRequest(
        model=build_ref(model),
        images=build_images(images, resize=resize),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    if draw_seed is not None:
        request.draw.seed = build_seed("draw_seed", draw_seed)
        request.draw.first_index = integer("first_index", first_index, 0, MAX_INDEX - count_images(request.images))
    elif first_index != 0:
        raise RequestError("first_index is the index of the draws' noise; give draw_seed too")
    return Exchange("Encode", request, replies.parse_encode, timeout, request_id)


def decode(
    model: ModelLike,
    latents: LatentsLike | CodesLike,
    *,
    labels: LabelsLike | None = None,
    format: Format = "float32",
    grid_columns: int | None = None,
    bands: Sequence[int] | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Decoded]:
    """Give the image of each latent: the mean of p(x|z) where there is one, for a GAN the generator's image.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        latents: float32 [n, latent_dim] or [n, *latent_shape]; float64 is converted to it. Of a vector-quantised
            autoencoder codes, which are signed integers.
        labels: of a conditional model, which demands them, from 0: one for all latents, or one for each.
        format: "float32" (in the model's value range), "float16" or "uint8" (0 to 255) for one array, in `images`;
            "png", "jpeg" (at quality 90) or "webp" (lossless) for encoded files, in `files`.
        grid_columns: with a file format, one file with the picture of all images, in so many columns.
        bands: with a file format, the channels that files show, from 0: one as grey, three as RGB or four as RGBA; all
            of a model of 1, 3 or 4 channels unless given.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    request = generation_pb2.DecodeRequest(
        model=build_ref(model),
        latents=build_latents_or_codes("latents", latents),
        output=build_output(format, grid_columns, bands),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Decode", request, replies.parse_decode, timeout, request_id)


def reconstruct(
    model: ModelLike,
    images: ImagesLike,
    *,
    resize: bool = False,
    labels: LabelsLike | None = None,
    format: Format = "float32",
    grid_columns: int | None = None,
    bands: Sequence[int] | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Reconstruction]:
    """Encode each image and decode its posterior mean, and say what was lost on the way, in nats.

    Of an autoencoder its latents are decoded, and there is no KL; without a likelihood no error either.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        images: [n, channels, height, width], float32 or float16 in the model's value range or uint8 from 0 to 255, or
            a list of the bytes of n PNG, JPEG, WebP, GIF or BMP files. float64 is converted to float32.
        resize: whether files of any size are brought to the model's, as its manifest says; refused unless it is set.
        labels: of a conditional model, which demands them, from 0: one for all images, or one for each.
        format: "float32" (in the model's value range), "float16" or "uint8" (0 to 255) for one array, in `images`;
            "png", "jpeg" (at quality 90) or "webp" (lossless) for encoded files, in `files`.
        grid_columns: with a file format, one file with the picture of all images, in so many columns.
        bands: with a file format, the channels that files show, from 0: one as grey, three as RGB or four as RGBA; all
            of a model of 1, 3 or 4 channels unless given.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    request = generation_pb2.ReconstructRequest(
        model=build_ref(model),
        images=build_images(images, resize=resize),
        output=build_output(format, grid_columns, bands),
        priority=build_priority(priority),
        labels=build_labels(labels),
    )
    return Exchange("Reconstruct", request, replies.parse_reconstruct, timeout, request_id)


def score(
    model: ModelLike,
    images: ImagesLike,
    *,
    draws: int = 0,
    seed: int | None = None,
    first_index: int = 0,
    resize: bool = False,
    labels: LabelsLike | None = None,
    map: Format | None = None,  # noqa: A002 - as the field
    priority: Priority | None = None,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[Scores]:
    """Say how well the model explains each image, in nats: at the posterior mean or, with `draws`, over so many draws.

    Of an autoencoder there is the reconstruction error alone, and nothing to draw from.

    Scores are the same every time unless asked otherwise: draw j of image i uses the noise at
    (first_index + i) * draws + j of the seed.

    Args:
        model: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        images: [n, channels, height, width], float32 or float16 in the model's value range or uint8 from 0 to 255, or
            a list of the bytes of n PNG, JPEG, WebP, GIF or BMP files. float64 is converted to float32.
        draws: latents drawn from each image's posterior; 0 takes its mean.
        seed: any uint64, of the draws; 0 unless given.
        first_index: the first image's index, which the noise of its draws follows.
        resize: whether files of any size are brought to the model's, as its manifest says; refused unless it is set.
        labels: of a conditional model, which demands them, from 0: one for all images, or one for each.
        map: asks for the reconstruction error pixel by pixel: "float32" or "float16" in nats; "uint8", "png", "jpeg" or
            "webp" in grey, the sum over channels, from black at each image's least to white at its most.
        priority: "bulk" lets others go first, "interactive" does not; "interactive" unless given.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    pictures = build_images(images, resize=resize)
    draws = integer("draws", draws, 0, MAX_UINT32)
    request = generation_pb2.ScoreRequest(
        model=build_ref(model),
        images=pictures,
        draws=draws,
        seed=None if seed is None else integer("seed", seed, 0, MAX_SEED),
        first_index=integer("first_index", first_index, 0, MAX_INDEX // max(1, draws) - count_images(pictures)),
        priority=build_priority(priority),
        labels=build_labels(labels),
        map=None if map is None else build_output(map, None, None, field="map"),
    )
    return Exchange("Score", request, replies.parse_score, timeout, request_id)
