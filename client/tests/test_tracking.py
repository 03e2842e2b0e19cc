"""Timing calls: blocks, functions of every kind, and what counts as a failure."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import inspect
import itertools
import time
import types
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any
from unittest import mock

import pytest

from misbehaving import Service, wait_until
from predlog import Client


def logged(service: Service, client: Client) -> Any:
    assert client.flush()
    return list(service.records.values())


def test_a_block_is_timed_and_logged_as_a_success(service: Service, client: Client) -> None:
    with client.track("apartment_price", version="3") as call:
        time.sleep(0.02)
        call.metadata["rooms"] = 3
        identifier = call.request_id
    (record,) = logged(service, client)
    assert record["was_successful"] is True and record["duration_ms"] >= 20
    assert record["model_version"] == "3" and record["metadata"] == {"rooms": 3}
    assert record["request_id"] == identifier


def test_an_exception_is_logged_as_a_failure_and_goes_on(service: Service, client: Client) -> None:
    with pytest.raises(KeyError), client.track("m"):
        raise KeyError("street")
    (record,) = logged(service, client)
    assert record["was_successful"] is False and record["error"] == "KeyError: 'street'"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_a_call_that_is_cut_short_is_a_failure(service: Service, client: Client, kind: type[BaseException]) -> None:
    with pytest.raises(kind), client.track("m"):
        raise kind
    (record,) = logged(service, client)
    assert record["was_successful"] is False and record["error"] == kind.__name__


def test_a_failure_can_be_told_without_raising(service: Service, client: Client) -> None:
    with client.track("m") as call:
        call.error = "the answer was empty"
        call.version = "known only now"
    (record,) = logged(service, client)
    assert record["was_successful"] is False and record["error"] == "the answer was empty"
    assert record["model_version"] == "known only now"


def test_an_exception_whose_text_cannot_be_had_is_logged_all_the_same(service: Service, client: Client) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(Rude), client.track("m"):
        raise Rude
    (record,) = logged(service, client)
    assert record["error"].endswith("Rude: (its str() failed)")


def test_metadata_given_to_a_block_stays_the_callers_own(service: Service, client: Client) -> None:
    mine = {"a": 1}
    with client.track("m", metadata=mine) as call:
        call.metadata["b"] = 2
    assert mine == {"a": 1}
    (record,) = logged(service, client)
    assert record["metadata"] == {"a": 1, "b": 2}


def test_the_timestamp_is_the_start_of_the_call(service: Service, client: Client) -> None:
    before = time.time()
    with client.track("m"):
        entered = time.time()
        time.sleep(0.05)
    from datetime import datetime

    (record,) = logged(service, client)
    assert before - 0.001 <= datetime.fromisoformat(record["timestamp"]).timestamp() <= entered + 0.001


def test_a_function_is_logged_and_keeps_its_name_and_result(service: Service, client: Client) -> None:
    @client.tracked("m", version="2")
    def predict(x: int, *, scale: int = 1) -> int:
        """Predict."""
        return x * scale

    assert predict(2, scale=3) == 6
    assert (predict.__name__, predict.__doc__) == ("predict", "Predict.")
    (record,) = logged(service, client)
    assert record["was_successful"] is True and record["model_version"] == "2"


def test_methods_partials_and_objects_that_can_be_called_are_logged(service: Service, client: Client) -> None:
    class Model:
        @client.tracked("method")
        def predict(self, x: Any) -> Any:
            return x

        def __call__(self, x: Any) -> Any:
            return x

    class AsyncModel:
        async def __call__(self, x: Any) -> Any:
            await asyncio.sleep(0.02)
            return x

    assert Model().predict(1) == 1
    assert client.tracked("object")(Model())(1) == 1
    assert client.tracked("partial")(functools.partial(pow, 2))(3) == 8
    assert asyncio.run(client.tracked("async object")(AsyncModel())(5)) == 5
    records = {record["model_name"]: record for record in logged(service, client)}
    assert set(records) == {"method", "object", "partial", "async object"}
    assert records["async object"]["duration_ms"] >= 20


def test_an_async_function_is_timed_until_it_returns(service: Service, client: Client) -> None:
    @client.tracked("m")
    async def predict() -> Any:
        await asyncio.sleep(0.02)
        return 1

    assert asyncio.iscoroutinefunction(predict)
    assert asyncio.run(predict()) == 1
    (record,) = logged(service, client)
    assert record["duration_ms"] >= 20


def test_a_cancelled_task_is_a_failure_and_stays_cancelled(service: Service, client: Client) -> None:
    @client.tracked("m")
    async def predict() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(predict(), 0.02)

    asyncio.run(main())
    (record,) = logged(service, client)
    assert record["was_successful"] is False and record["error"].startswith("CancelledError")


def test_a_generator_is_timed_until_it_is_exhausted_and_hands_everything_through(
    service: Service, client: Client
) -> None:
    @client.tracked("m")
    def tokens() -> Generator[str, str, str]:
        sent = yield "a"
        try:
            yield sent
        except ValueError:
            yield "caught"
        return "result"

    stream = tokens()
    assert next(stream) == "a"
    assert stream.send("sent") == "sent"
    assert stream.throw(ValueError()) == "caught"
    assert client.flush() and not service.records
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == "result"
    (record,) = logged(service, client)
    assert record["was_successful"] is True


def test_a_generator_that_is_closed_early_is_a_success_and_one_that_raises_a_failure(
    service: Service, client: Client
) -> None:
    closed = []

    @client.tracked("m")
    def tokens(fail: bool) -> Generator[int, None, None]:
        try:
            yield 1
            if fail:
                raise ValueError("no more")
            yield 2
        finally:
            closed.append(fail)

    stream = tokens(False)
    next(stream)
    stream.close()
    with pytest.raises(ValueError):
        list(tokens(True))
    assert closed == [False, True]
    assert [record["was_successful"] for record in logged(service, client)] == [True, False]


def test_an_async_generator_hands_everything_through_and_is_logged_once(service: Service, client: Client) -> None:
    closed = []

    @client.tracked("m")
    async def tokens() -> AsyncGenerator[str, str]:
        try:
            sent = yield "a"
            try:
                yield sent
            except ValueError:
                yield "caught"
        finally:
            closed.append(True)

    async def main() -> None:
        stream = tokens()
        assert await stream.__anext__() == "a"
        assert await stream.asend("sent") == "sent"
        assert await stream.athrow(ValueError()) == "caught"
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    asyncio.run(main())
    (record,) = logged(service, client)
    assert record["was_successful"] is True and closed == [True]


def test_an_async_generator_that_is_closed_early_or_raises(service: Service, client: Client) -> None:
    closed = []

    @client.tracked("m")
    async def tokens(fail: bool) -> AsyncGenerator[int, None]:
        try:
            yield 1
            if fail:
                raise ValueError("no more")
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(fail)

    async def main() -> None:
        stream = tokens(False)
        await stream.__anext__()
        await stream.aclose()
        with pytest.raises(ValueError):
            async for _ in tokens(True):
                pass

    asyncio.run(main())
    assert closed == [False, True]
    assert [record["was_successful"] for record in logged(service, client)] == [True, False]


def test_a_decorator_without_parentheses_logs_under_the_functions_name(service: Service, client: Client) -> None:
    @client.tracked
    def predict(x: Any) -> Any:
        return x

    @client.tracked
    async def predict_soon(x: Any) -> Any:
        return x

    assert predict(1) == 1 and asyncio.run(predict_soon(2)) == 2
    assert {record["model_name"] for record in logged(service, client)} == {"predict", "predict_soon"}


def test_a_decorator_stands_above_or_below_those_of_methods(service: Service, client: Client) -> None:
    class Model:
        @client.tracked("static above")
        @staticmethod
        def a(x: Any) -> Any:
            return x

        @staticmethod
        @client.tracked("static below")
        def b(x: Any) -> Any:
            return x

        @client.tracked("class above")
        @classmethod
        def c(cls, x: Any) -> Any:
            return cls, x

        @classmethod
        @client.tracked("class below")
        def d(cls, x: Any) -> Any:
            return cls, x

        @client.tracked
        @staticmethod
        def e(x: Any) -> Any:
            return x

    assert (Model.a(1), Model().b(2), Model.c(3), Model().d(4), Model().e(5)) == (1, 2, (Model, 3), (Model, 4), 5)
    names = {record["model_name"] for record in logged(service, client)}
    assert names == {"static above", "static below", "class above", "class below", "e"}


def test_a_function_that_returns_a_coroutine_is_timed_until_its_result_is_there(
    service: Service, client: Client
) -> None:
    async def work(fail: Any) -> Any:
        await asyncio.sleep(0.02)
        if fail:
            raise ValueError("no")
        return 1

    @client.tracked("m")
    def predict(fail: Any = False) -> Any:
        return work(fail)

    @client.tracked("task")
    def begin() -> Any:
        return asyncio.ensure_future(work(False))

    async def main() -> None:
        task = begin()
        assert isinstance(task, asyncio.Task)
        assert await predict() == 1 and await task == 1
        with pytest.raises(ValueError):
            await predict(True)

    asyncio.run(main())
    records = logged(service, client)
    assert [record["was_successful"] for record in records if record["model_name"] == "m"] == [True, False]
    assert len(records) == 3 and all(record["duration_ms"] >= 20 for record in records)


def test_a_cancelled_future_is_a_failure(service: Service, client: Client) -> None:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    assert client.tracked("m")(lambda: future)() is future
    assert client.flush() and not service.records
    future.cancel()
    (record,) = logged(service, client)
    assert record["was_successful"] is False


class Rpc:
    """As a unary call of grpc.aio: it tells its end, and its outcome to coroutines alone."""

    def __init__(self, status: str = "OK") -> None:
        self._status = status
        self._callbacks: list[Any] = []

    def add_done_callback(self, callback: Any) -> None:
        self._callbacks.append(callback)

    async def code(self) -> Any:
        return types.SimpleNamespace(name=self._status)

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(0.02).__await__()
        for callback in self._callbacks:
            callback(self)


@pytest.mark.parametrize(("status", "error"), [("OK", None), ("UNAVAILABLE", "gRPC UNAVAILABLE")])
def test_a_call_of_grpc_is_timed_to_its_end_and_judged_by_its_status(
    service: Service, client: Client, status: str, error: Any
) -> None:
    async def main() -> None:
        rpc = Rpc(status)
        assert client.tracked("m")(lambda: rpc)() is rpc
        assert not client.stats().queued
        await rpc

    asyncio.run(main())
    (record,) = logged(service, client)
    assert record["was_successful"] is (error is None) and record.get("error") == error
    assert record["duration_ms"] >= 20


def test_a_result_that_tells_its_end_but_not_its_outcome_is_a_whole_answer(service: Service, client: Client) -> None:
    result = type("Told", (), {"add_done_callback": lambda self, callback: 1 / 0})()
    assert client.tracked("m")(lambda: result)() is result
    (record,) = logged(service, client)
    assert record["was_successful"]


def test_metadata_may_be_set_as_a_whole(service: Service, client: Client) -> None:
    mine = {"a": 1}
    with client.track("m") as call:
        call.metadata = mine
        call.metadata["b"] = 2
    assert mine == {"a": 1}
    (record,) = logged(service, client)
    assert record["metadata"] == {"a": 1, "b": 2}


def test_a_call_that_is_entered_again_is_logged_again(service: Service, client: Client) -> None:
    call = client.track("m")
    with call:
        outer = call.request_id
        with call:
            inner = call.request_id
        call.error = "once"
    with call:
        third = call.request_id
    records = logged(service, client)
    assert {record["request_id"] for record in records} == {outer, inner, third}
    assert sorted(record["was_successful"] for record in records) == [False, True, True]


@pytest.mark.parametrize("error", [None, "the answer was empty", ValueError("below zero")])
def test_a_call_that_is_finished_inside_its_block_is_logged_once(
    service: Service, client: Client, error: object
) -> None:
    began = time.perf_counter()
    with contextlib.suppress(KeyError), client.track("m") as call:
        call.finish(error)
        if error is not None:
            raise KeyError("after its end")
    lasted = (time.perf_counter() - began) * 1000
    (record,) = logged(service, client)
    assert record["was_successful"] is (error is None) and record["duration_ms"] <= lasted
    assert "after its end" not in record.get("error", "") and set(service.copies.values()) == {1}


def test_a_text_that_ends_the_program_does_not_end_the_call(service: Service, client: Client) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise SystemExit

    with pytest.raises(Rude), client.track("m"):
        raise Rude
    (record,) = logged(service, client)
    assert record["error"].endswith("Rude: (its str() failed)")


@pytest.mark.parametrize("yielded", [0, 1], ids=["before", "after"])
def test_a_stream_that_is_cancelled_is_a_failure_only_if_nothing_came_of_it(
    service: Service, client: Client, yielded: Any
) -> None:
    @client.tracked("m")
    async def tokens() -> AsyncIterator[Any]:
        for number in range(yielded):
            yield number
        await asyncio.sleep(60)
        yield "never"

    async def read() -> None:
        async for _ in tokens():
            pass

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.05)

    asyncio.run(main())
    (record,) = logged(service, client)
    assert record["was_successful"] is bool(yielded)


FRAMEWORKS = ["generator", "async generator", "starlette", "flask"]


def streaming(kind: str, steps: Any, asteps: Any) -> Any:
    if kind == "generator":
        return lambda: steps()
    if kind == "async generator":
        return lambda: asteps()
    if kind == "flask":
        flask = pytest.importorskip("flask")
        return lambda: flask.Response(steps())
    responses = pytest.importorskip("starlette.responses")
    return lambda: responses.StreamingResponse(asteps())


def consume(kind: str, answer: Any, most: Any) -> Any:
    """Take so many steps and leave, or all of them."""

    async def consume_async() -> Any:
        iterator = answer.body_iterator if kind == "starlette" else answer
        taken = []
        async for step in iterator:
            taken.append(step)
            if len(taken) == most:
                return taken
        return taken

    if kind in ("starlette", "async generator"):
        return asyncio.run(consume_async())
    iterator = iter(answer if kind == "generator" else answer.response)
    taken = list(itertools.islice(iterator, most))
    if kind == "flask":
        answer.close()
    return taken


class Away:
    """As a proxy of Werkzeug whose object is not there."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("object is not bound")


@pytest.mark.parametrize("kind", [mock.Mock, mock.MagicMock, Away])
def test_a_result_that_has_every_attribute_or_raises_for_each_is_a_whole_answer(
    service: Service, client: Client, kind: Any
) -> None:
    result = kind()
    assert client.tracked("m")(lambda: result)() is result
    (record,) = logged(service, client)
    assert record["was_successful"]


@pytest.mark.parametrize("kind", FRAMEWORKS)
@pytest.mark.parametrize("most", [2, 1, None], ids=["left in the middle", "left at once", "to the end"])
def test_a_function_that_returns_a_stream_is_timed_to_its_end(
    service: Service, client: Client, kind: str, most: Any
) -> None:
    slept = []

    def steps() -> Iterator[Any]:
        yield b"1"
        time.sleep(0.05)
        slept.append(True)
        yield b"2"
        yield b"3"

    async def asteps() -> AsyncIterator[Any]:
        for step in steps():
            yield step

    began = time.perf_counter()
    answer = client.tracked("m")(streaming(kind, steps, asteps))()
    assert not client.stats().queued
    assert consume(kind, answer, most) == [b"1", b"2", b"3"][:most]
    del answer
    gc.collect()
    assert client.flush()
    (record,) = service.records.values()
    lasted = (time.perf_counter() - began) * 1000
    assert record["was_successful"] and 50 * len(slept) <= record["duration_ms"] <= lasted
    assert bool(slept) == (most != 1)


def test_generators_that_a_function_returns_are_generators_still(service: Service, client: Client) -> None:
    async def asteps() -> AsyncIterator[Any]:
        yield 1

    async def later() -> Any:
        return asteps()

    assert inspect.isgenerator(client.tracked("m")(lambda: (step for step in [1]))())
    assert inspect.isasyncgen(client.tracked("m")(lambda: asteps())())
    assert inspect.isasyncgen(asyncio.run(client.tracked("m")(later)()))


def test_an_async_generator_that_a_function_returns_hands_everything_through(service: Service, client: Client) -> None:
    async def asteps() -> AsyncGenerator[Any, Any]:
        sent = yield 1
        try:
            yield sent
        except KeyError as error:
            yield str(error)

    async def main() -> None:
        steps = client.tracked("m")(lambda: asteps())()
        assert await steps.__anext__() == 1
        assert await steps.asend(2) == 2
        assert await steps.athrow(KeyError(3)) == "3"
        assert not client.stats().queued
        await steps.aclose()
        assert client.stats().queued
        with pytest.raises(StopAsyncIteration):
            await steps.__anext__()

    asyncio.run(main())
    (record,) = logged(service, client)
    assert record["was_successful"]


@pytest.mark.parametrize("made", ["in the loop", "before the loop"])
def test_an_async_generator_that_is_closed_before_its_first_step_is_logged(
    service: Service, client: Client, made: str
) -> None:
    async def asteps() -> AsyncGenerator[Any, Any]:
        yield 1

    @client.tracked("m")
    def answer() -> AsyncGenerator[Any, Any]:
        return asteps()

    early = answer() if made == "before the loop" else None

    async def main() -> None:
        steps = early or answer()
        await steps.aclose()
        assert logged(service, client)

    asyncio.run(main())


@pytest.mark.parametrize("kind", FRAMEWORKS)
def test_a_stream_that_breaks_is_a_failure(service: Service, client: Client, kind: str) -> None:
    def steps() -> Iterator[Any]:
        yield b"1"
        raise ValueError("broken")

    async def asteps() -> AsyncIterator[Any]:
        for step in steps():
            yield step

    answer = client.tracked("m")(streaming(kind, steps, asteps))()
    with pytest.raises(ValueError):
        consume(kind, answer, None)
    assert client.flush()
    (record,) = service.records.values()
    assert record["error"] == "ValueError: broken"


@pytest.mark.parametrize("kind", FRAMEWORKS)
def test_a_stream_that_nobody_begins_is_logged_too(service: Service, client: Client, kind: str) -> None:
    async def asteps() -> AsyncIterator[Any]:
        yield b"1"

    answer = client.tracked("m")(streaming(kind, lambda: (step for step in [b"1"]), asteps))()
    if kind == "flask":
        answer.close()
    del answer
    gc.collect()
    wait_until(lambda: client.flush() and len(service.records) == 1)
