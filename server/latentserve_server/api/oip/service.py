"""GRPCInferenceService: named tensors in, named tensors out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from grpc_health.v1 import health, health_pb2

from latentserve.oip import inference_pb2 as pb
from latentserve_server.api.oip.metadata import Totals, config_of, index_of, metadata_of, statistics_of
from latentserve_server.api.oip.models import InferenceModel, lease_model, parts_of
from latentserve_server.api.oip.parameters import RequestParameters, read_parameters
from latentserve_server.api.oip.reply_head import ReplyHeads
from latentserve_server.api.oip.tensors import (
    check_reply_size,
    raw_contents,
    read_inputs,
    read_wanted,
    serialized,
    stated_bytes,
    write_typed,
)
from latentserve_server.api.streams import answer_in_order
from latentserve_server.batching.scheduling import Scheduling
from latentserve_server.engine import Arrays, TensorSpec
from latentserve_server.errors import InvalidArgument, LatentServeError, ModelNotFound, ModelNotReady, NotPermitted
from latentserve_server.repository.repository import Repository
from latentserve_server.wire.exchange import Exchange
from latentserve_server.wire.status import retry_after_ms, status_of
from latentserve_server.workers import INLINE_BYTES, Workers

_logger = logging.getLogger(__name__)


NAME = "latentserve"
EXTENSIONS = ("model_configuration", "schedule_policy")
"""Extensions that are answered in full; of model_repository only the index is, of statistics what the metrics count."""

_ADMIN = "latentserve.v1.ModelAdminService, on the server's admin listener"


class Outcome(NamedTuple):
    """What a request's model found, and the beginning of the reply that tells it."""

    head: bytes
    wanted: tuple[TensorSpec, ...]
    arrays: Arrays

    @property
    def size(self) -> int:
        """The bytes of the wanted outputs."""
        return sum([self.arrays[spec.name].nbytes for spec in self.wanted])


class InferenceServicer:
    """Answers the Open Inference Protocol from the repository's models."""

    def __init__(
        self,
        repository: Repository,
        workers: Workers,
        health_servicer: health.aio.HealthServicer,
        version: str,
        *,
        draining: asyncio.Event,
        stream_rows: int,
        totals: Callable[[], Totals],
    ) -> None:
        """`version` is the server's; `stream_rows` are under way at a time for one stream.

        Streams end when they have nothing under way and `draining` is set.

        `totals` are what every graph has run until now.
        """
        self._repository = repository
        self._workers = workers
        self._health = health_servicer
        self._version = version
        self._draining = draining
        self._stream_rows = stream_rows
        self._totals = totals
        self._heads = ReplyHeads()

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Exchange) -> pb.ServerLiveResponse:
        """Say that the server is alive, which an answer shows."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Exchange) -> pb.ServerReadyResponse:
        """What the health service says of the whole server."""
        any_context: Any = context  # as gRPC's own servicer wants it
        health_now = await self._health.Check(health_pb2.HealthCheckRequest(), any_context)
        return pb.ServerReadyResponse(ready=health_now.status == health_pb2.HealthCheckResponse.SERVING)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Exchange) -> pb.ModelReadyResponse:
        """Whether the model would be found."""
        with suppress(ModelNotFound, ModelNotReady), lease_model(self._repository, request.name, request.version):
            return pb.ModelReadyResponse(ready=True)
        return pb.ModelReadyResponse(ready=False)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Exchange) -> pb.ServerMetadataResponse:
        """What the server is."""
        return pb.ServerMetadataResponse(name=NAME, version=self._version, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Exchange) -> pb.ModelMetadataResponse:
        """A model's tensors."""
        with lease_model(self._repository, request.name, request.version) as model:
            return metadata_of(model, self._repository.entries())

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Exchange) -> pb.ModelConfigResponse:
        """A model's configuration."""
        with lease_model(self._repository, request.name, request.version) as model:
            return pb.ModelConfigResponse(config=config_of(model))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Exchange) -> bytes:
        """A model's outputs."""
        parameters = read_parameters(request.parameters)
        outcome = await self._infer(request, context, parameters)
        if parameters.raw:
            contents = raw_contents(outcome.wanted, outcome.arrays)
            if (size := outcome.size) < INLINE_BYTES:
                return serialized(outcome.head, request.id, contents)
            return await self._workers.run(size, serialized, outcome.head, request.id, contents)
        return await self._workers.run(outcome.size, _typed, outcome, request.id)

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Exchange) -> None:
        """A response to every request, in order."""
        answer = partial(self._answer_in_band, context=context)
        await answer_in_order(
            request_iterator, answer, context.write, self._draining, weigh=_rows_of, room=self._stream_rows
        )

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Exchange
    ) -> pb.ModelStatisticsResponse:
        """What a model has run, or every one that is READY and that the caller may use."""
        totals = self._totals()
        if request.name:
            with lease_model(self._repository, request.name, request.version) as model:
                return pb.ModelStatisticsResponse(model_stats=[statistics_of(model, totals)])
        ready = [entry.model for entry in self._repository.entries() if entry.model and context.may_use(entry.name)]
        models = [InferenceModel(served, part) for served in ready for part in parts_of(served)]
        return pb.ModelStatisticsResponse(model_stats=[statistics_of(model, totals) for model in models])

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Exchange
    ) -> pb.RepositoryIndexResponse:
        """Every model of the repository that the caller may use."""
        if request.repository_name:
            raise InvalidArgument("repository_name", "must be empty; there is one repository")
        entries = (entry for entry in self._repository.entries() if context.may_use(entry.name))
        return index_of(entries, ready=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Exchange
    ) -> pb.RepositoryModelLoadResponse:
        """Not for the callers of this service."""
        raise NotPermitted(f"models are loaded by {_ADMIN}")

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Exchange
    ) -> pb.RepositoryModelUnloadResponse:
        """Not for the callers of this service."""
        raise NotPermitted(f"models are unloaded by {_ADMIN}")

    async def _infer(self, request: pb.ModelInferRequest, context: Exchange, parameters: RequestParameters) -> Outcome:
        deadline = min(context.deadline, _now() + parameters.timeout)
        scheduling = Scheduling(deadline, parameters.bulk, context.allowance)
        with lease_model(self._repository, request.model_name, request.model_version) as model:
            limits, specs = model.served.limits, model.inputs
            wanted = read_wanted(request, model.outputs)
            inputs = await self._workers.run(
                stated_bytes(request), read_inputs, request, specs, limits.max_rows_per_request, model.known
            )
            rows = len(inputs[specs[0].name])
            check_reply_size(rows, wanted, limits.max_message_bytes, raw=parameters.raw)
            names = tuple([spec.name for spec in wanted])
            arrays = await model.run(inputs, names, scheduling)
        return Outcome(self._heads.of(model, rows, wanted, names), wanted, arrays)

    async def _answer_in_band(self, request: pb.ModelInferRequest, context: Exchange) -> pb.ModelStreamInferResponse:
        answer = pb.ModelStreamInferResponse()
        response = answer.infer_response
        try:
            context.check_request(request)
            parameters = read_parameters(request.parameters)
            outcome = await self._infer(request, context, parameters)
            write = _write_raw if parameters.raw else _write_typed
            await self._workers.run(outcome.size, write, response, outcome, request.id)
        except LatentServeError as error:
            _logger.info("a request of a stream was refused: %s", error)
            answer.error_message = str(error)
            response.model_name, response.model_version = request.model_name, request.model_version
            response.id = request.id
            response.parameters["status_code"].string_param = status_of(error).name
            if (milliseconds := retry_after_ms(error)) is not None:
                response.parameters["retry_after_ms"].int64_param = milliseconds
        response.parameters["triton_final_response"].bool_param = True
        return answer


def _write_raw(response: pb.ModelInferResponse, outcome: Outcome, request_id: str) -> None:
    response.MergeFromString(outcome.head)
    response.id = request_id
    response.raw_output_contents.extend(array.tobytes() for array in raw_contents(outcome.wanted, outcome.arrays))


def _write_typed(response: pb.ModelInferResponse, outcome: Outcome, request_id: str) -> None:
    response.MergeFromString(outcome.head)
    response.id = request_id
    write_typed(response, outcome.wanted, outcome.arrays)


def _typed(outcome: Outcome, request_id: str) -> bytes:
    response = pb.ModelInferResponse()
    _write_typed(response, outcome, request_id)
    return response.SerializeToString()


def _rows_of(request: pb.ModelInferRequest) -> int:
    """The rows that the request says it has; nothing is checked yet."""
    return max([1, *(tensor.shape[0] for tensor in request.inputs if tensor.shape)])


def _now() -> float:
    return asyncio.get_running_loop().time()
