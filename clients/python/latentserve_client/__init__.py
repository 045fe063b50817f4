"""The Python clients of latentserve, blocking and asyncio, what they return and what they raise."""

from latentserve_client._channel import CHANNEL_OPTIONS
from latentserve_client.admin import AdminClient
from latentserve_client.aio import AsyncClient
from latentserve_client.aio_admin import AsyncAdminClient
from latentserve_client.aio_sample_stream import AsyncSampleStream
from latentserve_client.client import Client
from latentserve_client.errors import (
    CallError,
    CancelledError,
    ClosedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    LatentServeError,
    NotFoundError,
    NumericsError,
    PermissionDeniedError,
    ReplyError,
    RequestError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from latentserve_client.inputs import Axis, ImagesLike, LatentsLike, PointsLike, PosteriorMeans, Seeds
from latentserve_client.model_info import Capability, Limits, ModelInfo, ModelState, ModelStatus, Rescanned
from latentserve_client.model_ref import ModelLike, ModelRef
from latentserve_client.options import CallOptions, FileFormat, Format, GenerationOptions, LabelsLike, Prior, Priority
from latentserve_client.results import Decoded, Posterior, Reconstruction, Samples, Scores, Served, Timing, Walk
from latentserve_client.sample_stream import SampleStream

__all__ = [
    "CHANNEL_OPTIONS",
    "AdminClient",
    "AsyncAdminClient",
    "AsyncClient",
    "AsyncSampleStream",
    "Axis",
    "CallError",
    "CallOptions",
    "CancelledError",
    "Capability",
    "Client",
    "ClosedError",
    "DeadlineExceededError",
    "Decoded",
    "FailedPreconditionError",
    "FileFormat",
    "Format",
    "GenerationOptions",
    "ImagesLike",
    "InternalError",
    "InvalidArgumentError",
    "LabelsLike",
    "LatentServeError",
    "LatentsLike",
    "Limits",
    "ModelInfo",
    "ModelLike",
    "ModelRef",
    "ModelState",
    "ModelStatus",
    "NotFoundError",
    "NumericsError",
    "PermissionDeniedError",
    "PointsLike",
    "Posterior",
    "PosteriorMeans",
    "Prior",
    "Priority",
    "Reconstruction",
    "ReplyError",
    "RequestError",
    "Rescanned",
    "ResourceExhaustedError",
    "SampleStream",
    "Samples",
    "Scores",
    "Seeds",
    "Served",
    "Timing",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Walk",
]
