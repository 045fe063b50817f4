"""How every call is answered: admission, parsing, errors, metrics and the access log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message

from latentserve.contract import REQUEST_ID_KEY
from latentserve_server.access.allowance import Allowances
from latentserve_server.access.authentication import Authentication
from latentserve_server.access.demands import FORBIDDEN, check_scope
from latentserve_server.errors import (
    InvalidArgument,
    KeysMissing,
    LatentServeError,
    NotPermitted,
    OverLimit,
    ShuttingDown,
    Unauthenticated,
    Unread,
)
from latentserve_server.telemetry.logs import request_id
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.telemetry.tracing.calls import Tracing, current_call
from latentserve_server.wire.admission import (
    FREE_BYTES,
    STOPPING,
    Admission,
    BytesUnderWay,
    Headers,
    check_fields,
)
from latentserve_server.wire.core import Completions
from latentserve_server.wire.exchange import Aborted, Driver, Exchange
from latentserve_server.wire.field_count import FieldLimits, not_a_message
from latentserve_server.wire.memory_room import MemoryRoom
from latentserve_server.wire.services import Method

_logger = logging.getLogger(__name__)

_MAX_WATCHES = 1000
"""Streams of health and reflection at a time, of one listener; they last as long as their callers wish."""
_WATCH_SECONDS = 0.02
"""How long a call that a Driver answers may take until its caller is watched, twice as long at most: to watch costs as
much as to reply."""
_FIRST_MESSAGE_SECONDS = 0.05
"""For the first message of a refused stream to leave its caller. grpc.aio's client takes a status that comes earlier
for an error of its own, and says INTERNAL."""
_RELIEF_SECONDS = 0.01
"""How often what the process holds is looked at while requests are on their way."""
_CUT_OFF = "the server stopped before the call was answered; ask another one"


class Answering:
    """Answers the calls of one listener. Of gRPC's own services, health and reflection, only the number is bounded."""

    def __init__(
        self,
        completions: Completions,
        metrics: Metrics,
        admission: Admission[Exchange],
        under_way: BytesUnderWay,
        limits: FieldLimits,
        *,
        max_header_bytes: int,
        unread_timeout: float,
        access_log: bool,
        authentication: Authentication | None = None,
        allowances: Allowances | None = None,
        tracing: Tracing | None = None,
        memory: MemoryRoom | None = None,
    ) -> None:
        """`authentication` tells who calls; without, nobody is asked. `allowances` are what each may have.

        Without `memory`, calls are let in whatever the process holds.
        """
        self._loop = asyncio.get_running_loop()
        self._completions = completions
        self._methods: dict[str, Method] = {}
        self._will_watch = self._will_relieve = False
        self._metrics = metrics
        self._admission = admission
        self._watches: Admission[Exchange] = Admission(_MAX_WATCHES)
        self._under_way = under_way
        self._limits = limits
        self._headers = Headers(max_header_bytes)
        self._unread_timeout = unread_timeout
        self._authentication = authentication
        self._allowances = allowances
        self._tracing = tracing
        self._memory = memory
        self._coming: dict[Exchange, None] = {}
        """The calls whose requests are on their way, from the first one on, where memory is looked at."""
        self._access_level = logging.INFO if access_log else logging.DEBUG

    def add_methods(self, methods: Mapping[str, Method]) -> None:
        """Answer calls of these methods, which are given by their paths."""
        self._methods.update(methods)

    def answer(self, arrival: Any) -> None:
        """Take a call that has come in, and see to its end."""
        exchange = Exchange(arrival, self._completions, self, self._under_way, self._unread_timeout)
        method = self._methods.get(exchange.path)
        if method is None:
            exchange.end(grpc.StatusCode.UNIMPLEMENTED.value[0], "Method not found!", ())
            return
        exchange.method = method
        exchange.request_id, refusal = self._headers.read(exchange.metadata)
        if self._authentication is not None and refusal is None:
            refusal = self._identify(exchange, self._authentication)
        if self._allowances is not None and refusal is None:
            refusal = self._allow(exchange, self._allowances)
        if method.is_own:
            exchange.trailers = ((REQUEST_ID_KEY, exchange.request_id),)
        exchange.places = places = self._admission if method.is_own else self._watches if method.gives_stream else None
        if places is not None and refusal is None and (refusal := self._lacks_room(exchange, places)) is None:
            exchange.take_place()
        if not method.is_driven:
            exchange.watch()
        if refusal is not None:
            self._refuse(exchange, refusal)
        elif method.takes_stream:
            self._begin(exchange, None)
        else:
            self._expect_request(exchange)
            exchange.receive()

    def _lacks_room(self, exchange: Exchange, places: Admission[Exchange]) -> LatentServeError | None:
        """Why there is no place for the call, or no memory for its request; None where there is both."""
        refusal = places.refusal()
        if refusal is None and self._memory is not None and exchange.method.is_own:
            refusal = self._memory.refusal(exchange.began_ns, len(places.under_way))
            if refusal is not None:
                self._metrics.memory_lacked()
        return refusal

    def _lacks_memory(self, exchange: Exchange, size: int) -> LatentServeError | None:
        """Why a request of so many bytes, which is here, is not read; None where it is."""
        if self._memory is None or not exchange.method.is_own:
            return None
        refusal = self._memory.refusal_of(size, time.monotonic_ns(), len(self._admission.under_way))
        if refusal is not None:
            self._metrics.memory_lacked()
        return refusal

    def _expect_request(self, exchange: Exchange) -> None:
        """Count a request that is asked for, and see that the process can hold those that are on their way."""
        if self._memory is None or not exchange.method.is_own:
            return
        self._memory.expect()
        self._coming[exchange] = None
        self._relieve_soon()

    def _relieve_soon(self) -> None:
        if not self._will_relieve:
            self._will_relieve = True
            self._loop.call_later(_RELIEF_SECONDS, self._relieve)

    def _relieve(self) -> None:
        """Give up the younger half of the requests on their way where the process holds too much."""
        self._will_relieve = False
        if not self._coming or self._memory is None:
            return
        self._relieve_soon()
        if len(self._coming) == 1 or (refusal := self._memory.is_exceeded(time.monotonic_ns())) is None:
            return
        for exchange in list(self._coming)[(len(self._coming) + 1) // 2 :]:
            del self._coming[exchange]
            self._memory.came(None)
            self._metrics.memory_lacked()
            if not exchange.closed:
                self._refuse(exchange, refusal)

    def _identify(self, exchange: Exchange, authentication: Authentication) -> LatentServeError | None:
        """Note who calls; returns why the call is refused, or None where it is not."""
        demand = exchange.method.demand
        if demand is not None and demand.is_open:
            return None
        try:
            exchange.caller = authentication.caller_of(exchange.metadata)
            check_scope(exchange.caller, demand)
        except (Unauthenticated, KeysMissing, NotPermitted) as error:
            self._note_refusal(exchange, error)
            return error
        return None

    def _allow(self, exchange: Exchange, allowances: Allowances) -> LatentServeError | None:
        """Note what the caller may have, and count the call; returns why it is refused, or None where it is not.

        Callers without tokens are told apart by their certificates' first names, or else by their addresses.
        """
        demand, caller = exchange.method.demand, exchange.caller
        if demand is None or demand.is_open:
            return None
        if caller is None:
            exchange.allowance = allowances.of(next(iter(exchange.peer_names()), "") or exchange.peer_host())
        else:
            exchange.allowance = allowances.of(caller.name, caller.limits)
        try:
            exchange.allowance.check_place()
            if not demand.in_band:
                exchange.allowance.begin_call()
        except OverLimit as error:
            return error
        return None

    def check_model(self, exchange: Exchange, request: Any) -> None:
        """Hold a request of a known caller to the models that this may use, whether there is the one that it names.

        Raises:
            NotPermitted: it names another one.
        """
        named = exchange.method.named
        if exchange.caller is None or named is None:
            return
        model = named(request)
        if model and not exchange.caller.may_use(model):  # without a name it is refused for that, or concerns no model
            refusal = NotPermitted(FORBIDDEN, reason="model")
            self._note_refusal(exchange, refusal)
            raise refusal

    def _note_refusal(self, exchange: Exchange, refusal: Unauthenticated | KeysMissing | NotPermitted) -> None:
        exchange.refused_for = refusal.reason
        if isinstance(refusal, Unauthenticated):
            exchange.token = refusal.token
        self._metrics.caller_refused(refusal.reason)

    def request_came(self, exchange: Exchange, raw: bytes | None) -> None:
        """Answer a call whose request is here, or of which there is none."""
        if self._memory is not None and exchange.method.is_own:
            if exchange not in self._coming:  # it was given up
                return
            del self._coming[exchange]
            self._memory.came(None if raw is None else len(raw))
        if exchange.closed:
            return
        if raw is not None and (refusal := self._lacks_memory(exchange, len(raw))) is not None:
            self._refuse(exchange, refusal)
            return
        if raw is None:  # which a caller who goes looks like, too, until the core says so
            exchange.watch()
            self._loop.call_later(_WATCH_SECONDS, self._refuse_silence, exchange)
        else:
            self._begin(exchange, raw)

    def _refuse_silence(self, exchange: Exchange) -> None:
        if not exchange.closed:
            self._refuse(exchange, InvalidArgument("request", "there is none, though the call was half-closed"))

    def _begin(self, exchange: Exchange, raw: bytes | None) -> None:
        method = exchange.method
        if method.is_own:
            if self._admission.is_draining:
                self._refuse(exchange, ShuttingDown(STOPPING))
                return
            self._admission.begin(exchange)
        answer = self._answer(exchange, raw)
        if not method.is_driven:
            exchange.task = asyncio.ensure_future(answer)
            return
        exchange.task = driver = Driver(answer)
        if not driver.done():
            self._watch_soon()

    def _watch_soon(self) -> None:
        if not self._will_watch:
            self._will_watch = True
            self._loop.call_later(_WATCH_SECONDS, self._watch)

    def _watch(self) -> None:
        """Learn of callers who go, where calls are not answered at once, as most are."""
        self._will_watch = False
        began_before = time.monotonic_ns() - _WATCH_SECONDS * 1e9
        for exchange in self._admission.under_way:
            if exchange.task is not None and not exchange.task.done():
                if exchange.began_ns <= began_before:
                    exchange.watch()
                else:
                    self._watch_soon()

    def _refuse(self, exchange: Exchange, error: LatentServeError) -> None:
        """End a call of which no message is read."""
        exchange.fail(error)
        if exchange.method.is_own:
            self._metrics.call_started(exchange.method.name)
            if self._tracing is not None:
                self._trace(exchange, self._tracing)
            outer = request_id.set(exchange.request_id)
            self._record(exchange)
            request_id.reset(outer)
            if not self._admission.is_draining:
                self._admission.begin(exchange)
        if exchange.method.takes_stream:
            self._loop.call_later(_FIRST_MESSAGE_SECONDS, exchange.reply)
        else:
            exchange.reply()

    async def _answer(self, exchange: Exchange, raw: bytes | None) -> None:
        method, reply = exchange.method, None
        request_id.set(exchange.request_id)
        if method.is_own:
            self._metrics.call_started(method.name)
            if self._tracing is not None:
                self._trace(exchange, self._tracing)
                if exchange.trace is not None:
                    current_call.set(exchange.trace)
        try:
            requests = self._parse_all(exchange) if raw is None else self._parse(exchange, raw)
            if method.gives_stream:
                await self._stream(exchange, method.behaviour(requests, exchange))
            else:
                response = await method.behaviour(requests, exchange)
                reply = response if isinstance(response, bytes) else response.SerializeToString()
        except asyncio.CancelledError:
            if not exchange.is_cut_off:
                exchange.note_leaving()
            else:
                exchange.code, exchange.message = grpc.StatusCode.UNAVAILABLE, _CUT_OFF
        except Aborted:
            pass
        except LatentServeError as error:
            exchange.fail(error)
            if isinstance(error, Unread):
                exchange.leave_place()
        except Exception:
            _logger.exception("%s failed", method.name)
            exchange.code = grpc.StatusCode.INTERNAL
            exchange.message = f"internal error; see the log of request {exchange.request_id}"
        if method.is_own:
            exchange.note_lateness()
            self._record(exchange)
        if not exchange.closed:
            exchange.reply(reply)

    async def _stream(self, exchange: Exchange, replies: Any) -> None:
        """Send the replies, or wait for what sends them itself."""
        if not isinstance(replies, AsyncIterator):
            await replies
            return
        async with aclosing(replies) as responses:  # type: ignore[type-var]  # servicers write generators
            async for response in responses:
                await exchange.write(response)

    async def _parse_all(self, exchange: Exchange) -> AsyncIterator[Message]:
        """The requests of a stream."""
        while (raw := await exchange.read()) is not None:
            yield self._parse(exchange, raw)

    def _parse(self, exchange: Exchange, raw: bytes) -> Message:
        """The request of these bytes, which count as under way from now on.

        Raises:
            Overloaded: there are too many, of all calls. InvalidArgument: they are no message, or hold too much.
            NotPermitted: it names a model that the caller may not use.
        """
        method = exchange.method
        if method.is_own:
            exchange.enter(len(raw))
            check_fields(raw, method.descriptor, self._limits)
        elif len(raw) > FREE_BYTES:
            raise InvalidArgument("request", f"{len(raw)} bytes; {FREE_BYTES} are allowed")
        try:
            request = method.request.FromString(raw)
        except Exception as error:
            raise not_a_message() from error
        if method.is_own:
            exchange.model = method.model_of(request)
            if exchange.caller is not None and method.demand is not None and not method.demand.in_band:
                self.check_model(exchange, request)
        return request

    def _trace(self, exchange: Exchange, tracing: Tracing) -> None:
        exchange.trace = tracing.begin(exchange.path, exchange.request_id, exchange.metadata, exchange.began_ns)

    def _record(self, exchange: Exchange) -> None:
        method, code = exchange.method.name, exchange.code.name
        seconds = (time.monotonic_ns() - exchange.began_ns) / 1e9
        trace_id = "" if exchange.trace is None else exchange.trace.trace_id
        self._metrics.call_ended(method, exchange.model, code, seconds, trace_id)
        if exchange.caller is not None:
            self._metrics.caller_answered(exchange.caller.counted_as, code)
        if exchange.trace is not None:
            exchange.trace.end(exchange.model, code, exchange.message)
        level = logging.ERROR if exchange.code is grpc.StatusCode.INTERNAL else self._access_level
        if exchange.refused_for:
            level = max(level, logging.INFO)
        if _logger.isEnabledFor(level):
            fields = {"method": method, "model": exchange.model, "code": code, "seconds": round(seconds, 6)}
            if trace_id:
                fields["trace_id"] = trace_id
            _logger.log(level, "%s %s", method, _outcome(exchange), extra=fields | _caller_fields(exchange))


def _outcome(exchange: Exchange) -> str:
    outcome = exchange.message or exchange.code.name
    return f"{outcome} ({exchange.refused_for})" if exchange.refused_for else outcome


def _caller_fields(exchange: Exchange) -> dict[str, str]:
    """What the log says of who called: names and ids, never a secret."""
    caller = "" if exchange.caller is None else exchange.caller.name
    fields = {"caller": caller, "refused_for": exchange.refused_for, "token": exchange.token}
    return {name: text for name, text in fields.items() if text}
