"""Methods of clients, made from the functions that build their requests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args, get_type_hints

from latentserve_client._calls.exchange import Exchange, ResultT
from latentserve_client._calls.resumption import Resumption
from latentserve_client._transport.connection import AsyncConnection, BlockingConnection

ParametersT = ParamSpec("ParametersT")
ConnectionT = TypeVar("ConnectionT")
StreamT = TypeVar("StreamT")
MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def blocking(
    build: Callable[ParametersT, Exchange[ResultT]],
) -> Callable[Concatenate[BlockingConnection, ParametersT], ResultT]:
    """A method that takes what `build` takes, sends the request that it makes, and returns the result."""

    def call(self: BlockingConnection, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ResultT:
        return self._run(build(*args, **kwargs))

    return _documented(call, build, _result_of(build))


def awaited(
    build: Callable[ParametersT, Exchange[ResultT]],
) -> Callable[Concatenate[AsyncConnection, ParametersT], Coroutine[Any, Any, ResultT]]:
    """The asyncio counterpart of `blocking`."""

    async def call(self: AsyncConnection, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ResultT:
        return await self._run(build(*args, **kwargs))

    return _documented(call, build, _result_of(build))


def opening(
    stream: Callable[[ConnectionT, Resumption], StreamT], build: Callable[ParametersT, Resumption]
) -> Callable[Concatenate[ConnectionT, ParametersT], StreamT]:
    """A method that takes what `build` takes, and opens the stream of the request that it makes."""

    def call(self: ConnectionT, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> StreamT:
        return stream(self, build(*args, **kwargs))

    return _documented(call, build, stream)


def _documented(method: MethodT, build: Callable[..., Any], result: object) -> MethodT:
    """`method` with the name, the docstring and the parameters of `build`, and its own result, for help()."""
    update_wrapper(method, build)
    del method.__wrapped__  # type: ignore[attr-defined]
    signature = inspect.signature(build)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *signature.parameters.values()]
    shown = signature.replace(parameters=parameters, return_annotation=result)
    method.__signature__ = shown  # type: ignore[attr-defined]
    method.__annotations__ = {**build.__annotations__, "return": result}
    return method


def _result_of(build: Callable[..., Exchange[Any]]) -> object:
    """The type of the result, which the exchange is of."""
    (result,) = get_args(get_type_hints(build)["return"])
    return None if result is type(None) else result
