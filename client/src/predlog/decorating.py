"""The decorator for every kind of function: it times each call of the function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from predlog.streams import async_generator, followed
from predlog.tracking import Call

if TYPE_CHECKING:
    from predlog.client import Client

Function = TypeVar("Function", bound=Callable[..., Any])


Track = Callable[[tuple[Any, ...]], Call]  # from the arguments of a call


def track_function(
    client: Client,
    model_name: str,
    version: object,
    describe: Callable[[tuple[Any, ...]], dict[Any, Any] | None] | None = None,
) -> Callable[[Function], Function]:
    """The decorator of `Client.tracked`. describe: the metadata of a call, from its arguments."""

    def track(args: tuple[Any, ...]) -> Call:
        return client.track(model_name, version, None if describe is None else describe(args))

    def decorate(function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(decorate(function.__func__))
        call = function if inspect.isroutine(function) or not callable(function) else function.__call__
        if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(call):
            wrapper: Any = async_generator(function, track)
        elif inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
            wrapper = _coroutine(function, track)
        elif inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(call):
            wrapper = _generator(function, track)
        else:
            wrapper = _plain(function, track)
        return functools.update_wrapper(wrapper, function)

    return decorate


def _plain(function: Callable[..., Any], track: Track) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = track(args).__enter__()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.__exit__(type(error), error, error.__traceback__)
            raise
        kind = type(result)
        if kind is CoroutineType:
            return _awaited(result, call)
        if hasattr(kind, "add_done_callback"):  # a future, task or call of grpc.aio: it runs on by itself
            done = _done if hasattr(kind, "exception") else _rpc_done if hasattr(kind, "code") else None
            if done is not None:
                result.add_done_callback(functools.partial(done, call))
                return result
        return _answer(result, call)

    return wrapper


def _answer(result: Any, call: Call) -> Any:
    """The result, that ends the call now or with its last step."""
    stream = followed(result, call)
    if stream is not None:
        return stream
    call.__exit__(None, None, None)
    return result


async def _awaited(coroutine: Any, call: Call) -> Any:
    """What a function returned that is not async itself: timed from its call until the result is there."""
    try:
        result = await coroutine
    except BaseException as error:
        call.__exit__(type(error), error, error.__traceback__)
        raise
    return _answer(result, call)


def _done(call: Call, future: Any) -> None:
    error: BaseException | None
    try:
        error = future.exception()
    except BaseException as cancelled:  # CancelledError, of asyncio or of concurrent.futures
        error = cancelled
    call.__exit__(type(error) if error is not None else None, error, None)


def _rpc_done(call: Call, rpc: Any) -> None:
    """The status of a call of grpc.aio is there by now, though it has only a coroutine to ask for it."""
    status = "OK"
    try:
        rpc.code().send(None)
    except StopIteration as answered:
        status = getattr(answered.value, "name", status)
    except Exception:  # something else that has a code: an answer
        pass
    call.finish(None if status == "OK" else f"gRPC {status}")


def _coroutine(function: Callable[..., Any], track: Track) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = track(args).__enter__()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.__exit__(type(error), error, error.__traceback__)
            raise
        return _answer(result, call)

    return wrapper


def _generator(function: Callable[..., Any], track: Track) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with track(args):
            return (yield from function(*args, **kwargs))

    return wrapper
