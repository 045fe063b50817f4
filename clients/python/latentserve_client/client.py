"""The clients, blocking and asyncio; `_calls` describes each of their calls."""

from __future__ import annotations

from latentserve_client._calls import generation, sampling, walks
from latentserve_client._calls import models as model_calls
from latentserve_client._transport.connection import AsyncConnection, BlockingConnection
from latentserve_client._transport.method import awaited, blocking, opening
from latentserve_client.stream import AsyncSampleStream, SampleStream


class Client(BlockingConnection):
    """Calls a latentserve server. Threads may share one; it holds one channel for all of them.

    A call that the server could not take (UNAVAILABLE) is tried again, four times in all and within its timeout. Once
    there was an answer, calls wait within their timeout while there is no connection. Results with images have them as
    an array in `images` or as encoded files in `files`, whichever the `format` asked for.

    Args:
        target: the server's address as gRPC writes it: "host:port", or "dns:///host:port" for every replica of a name.
        timeout: seconds that a call may take, retries included, or that a stream may take for one chunk.
        tls: how to speak TLS with the server; without it the connection is in plain text.
        credentials: gRPC's own, where `tls` cannot say what is needed; one of the two.
        channel: a channel of the caller's own, used as it is and left open by close(), instead of target, tls
            and credentials. CHANNEL_OPTIONS are the options that it would have had.
        token: the bearer token that tells the server who calls, or a function that gives the one which is valid now:
            it is asked before every call, and so must not wait, as TokenFile does not. Sent to another machine under
            TLS alone; over a channel of the caller's own always.
        token_in_plain_text: whether to send it to another machine without TLS, where the network itself is encrypted.

    Raises:
        RequestError: at once, where the files of `tls` cannot be used; and from any call, for arguments that no server
            would accept: nothing was sent.
        CallError: from any call, as the class that fits the status.
        ReplyError: from any call, for a reply that breaks the contract.
        ClosedError: from any call after close().
    """

    models = blocking(model_calls.models)
    model = blocking(model_calls.model)
    sample = blocking(sampling.sample)
    stream_samples = opening(SampleStream, sampling.stream_samples)
    encode = blocking(generation.encode)
    decode = blocking(generation.decode)
    reconstruct = blocking(generation.reconstruct)
    interpolate = blocking(walks.interpolate)
    traverse = blocking(walks.traverse)
    score = blocking(generation.score)


class AsyncClient(AsyncConnection):
    """`Client` for asyncio: the same arguments, results and errors, awaited.

    To be made and used inside one running event loop; any number of its tasks may share one. Cancelling a task that
    awaits a call cancels the call on the server.

    Args:
        target: as Client's.
        timeout: as Client's, in seconds.
        tls: as Client's.
        credentials: as Client's.
        channel: a grpc.aio channel of the caller's own, used as it is and left open by close().
        token: as Client's.
        token_in_plain_text: as Client's.
    """

    models = awaited(model_calls.models)
    model = awaited(model_calls.model)
    sample = awaited(sampling.sample)
    stream_samples = opening(AsyncSampleStream, sampling.stream_samples)
    encode = awaited(generation.encode)
    decode = awaited(generation.decode)
    reconstruct = awaited(generation.reconstruct)
    interpolate = awaited(walks.interpolate)
    traverse = awaited(walks.traverse)
    score = awaited(generation.score)
