"""Answers that are made step by step: a call lasts until the last step, and ends early if its consumer leaves."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from predlog.tracking import Call


def followed(result: Any, call: Call) -> Any:
    """The result, if it is a stream whose end will end the call; None if it is the whole answer.

    Streams are generators, and responses of Starlette and Flask that are made of one.
    """
    kind = type(result)
    if kind is GeneratorType:
        return _steps(result, call)
    if kind is AsyncGeneratorType:
        begun = _Begun(call)  # a generator again, because hosts ask whether it is one
        return async_generator(lambda: result, lambda _: begun)()
    own = _own(result)
    if hasattr(type(own.get("body_iterator")), "__aiter__"):  # Starlette's StreamingResponse
        result.body_iterator = AsyncSteps(own["body_iterator"], call)
        return result
    if "response" in own and getattr(result, "is_streamed", False) is True:  # Werkzeug's
        result.response = _steps(own["response"], call)
        return result
    return None


def _own(result: Any) -> dict[str, Any]:
    """The attributes of its own: a mock has all other ones, too, and a proxy may raise whatever it is asked."""
    try:
        own: dict[str, Any] = getattr(result, "__dict__", {})  # vars() would raise for each list and number
        return own
    except Exception:
        return {}


def _steps(steps: Iterable[Any], call: Call) -> Generator[Any, Any, Any]:
    """A generator that is at its start already: closed there, it would not run, and nothing would be logged."""
    following = _follow(steps, call)
    next(following)
    return following


def _follow(steps: Any, call: Call) -> Generator[Any, Any, Any]:
    try:
        try:
            yield None
            result = yield from steps
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        call.__exit__(type(error), error, error.__traceback__)
        raise
    call.__exit__(None, None, None)
    return result


def async_generator(
    function: Callable[..., Any], track: Callable[[tuple[Any, ...]], Call | _Begun]
) -> Callable[..., Any]:
    """The decorator for functions that are async generators: a call lasts from the first step to the last."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = track(args).__enter__()
        yielded = False
        inner = function(*args, **kwargs)
        failure: BaseException | None = None
        try:
            step = inner.__anext__()
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                yielded = True
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = inner.athrow(error)
                else:
                    step = inner.asend(sent)
        except BaseException as error:
            # An ASGI server cancels an answer whose client has left, be it in the middle of a step.
            left = yielded and isinstance(error, CancelledError)
            failure = None if left else error
            raise
        finally:
            try:
                await inner.aclose()
            finally:
                call.__exit__(type(failure) if failure is not None else None, failure, None)

    return wrapper


class _Begun:
    """A call that is timed already. It ends with this object, if the generator that holds it is never begun."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Call:
        return self._call

    def __del__(self) -> None:
        self._call.__exit__(None, None, None)


class AsyncSteps:
    """The parts of an answer, which end the call with the last one, or when a host leaves them."""

    def __init__(self, steps: AsyncIterable[Any], call: Call) -> None:
        self._steps: Any = steps.__aiter__()
        self._call: Call | None = call
        self._began = False

    def __aiter__(self) -> AsyncSteps:
        return self

    async def __anext__(self) -> Any:
        try:
            value = await self._steps.__anext__()
        except StopAsyncIteration:
            self._end(None)
            raise
        except BaseException as error:
            # A server cancels an answer whose client has left, be it in the middle of a step.
            self._end(None if self._began and isinstance(error, CancelledError) else error)
            raise
        self._began = True
        return value

    async def aclose(self) -> None:
        """As an async generator's."""
        try:
            if hasattr(self._steps, "aclose"):
                await self._steps.aclose()
        finally:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.__exit__(type(error) if error is not None else None, error, None)

    def __del__(self) -> None:
        self._end(None)  # left between two steps
