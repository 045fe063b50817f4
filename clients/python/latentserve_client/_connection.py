"""What a blocking client's calls share: the channel, its life, and how one call is made."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from latentserve.v1 import generation_pb2, generation_pb2_grpc, models_pb2_grpc
from latentserve_client._call import REQUEST_ID_KEY, build_call, build_timeout, parse_request_id
from latentserve_client._channel import BLOCKING_CHANNEL_OPTIONS
from latentserve_client.errors import ClosedError, from_rpc_error
from latentserve_client.options import CallOptions, Pictures
from latentserve_client.sample_stream import SampleStream

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Connection:
    """A channel to a server, open until close()."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout: float = 30.0,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        self._timeout = build_timeout(timeout)
        self._owns_channel = channel is None
        if channel is None:
            channel = (
                grpc.insecure_channel(target, options=BLOCKING_CHANNEL_OPTIONS)
                if credentials is None
                else grpc.secure_channel(target, credentials, options=BLOCKING_CHANNEL_OPTIONS)
            )
        self._channel = channel
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._models = models_pb2_grpc.ModelServiceStub(channel)
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closing.is_set()

    def close(self) -> None:
        """End the calls in flight, as CancelledError, and the channel. Closing twice is closing once."""
        if not self._closing.is_set():
            self._closing.set()
            if self._owns_channel:
                self._channel.close()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ClosedError("the client is closed")

    def _call(
        self,
        method: str,
        rpc: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        **options: Unpack[CallOptions],
    ) -> tuple[ResponseT, str]:
        """The reply, and the id under which the server logged the call."""
        self._check_open()
        timeout, sent = build_call(self._timeout, **options)
        try:
            response, call = rpc.with_call(request, timeout=timeout, metadata=((REQUEST_ID_KEY, sent),))
        except grpc.RpcError as error:
            raise from_rpc_error(error, method, parse_request_id(error.trailing_metadata(), sent)) from error
        return response, parse_request_id(call.trailing_metadata(), sent)

    def _stream(
        self, request: generation_pb2.StreamSamplesRequest, **options: Unpack[CallOptions]
    ) -> SampleStream[Pictures]:
        self._check_open()
        return SampleStream(
            self._generation.StreamSamples, request, *build_call(self._timeout, **options), closing=self._closing
        )
