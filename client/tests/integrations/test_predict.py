"""Models of all kinds, wrapped."""

from __future__ import annotations

import asyncio
import functools
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from misbehaving import Service
from predlog import Client
from predlog.integrations.predict import Logged


class Doubler:
    def __init__(self) -> None:
        self.unit = "m2"
        self.fitted = False

    def fit(self, rows: Any) -> Any:
        self.fitted = True
        return self

    def predict(self, rows: Any) -> Any:
        """Double them."""
        return [2 * row for row in rows]

    def __call__(self, rows: Any) -> Any:
        return self.predict(rows)


class Later:
    async def predict(self, rows: Any) -> Any:
        await asyncio.sleep(0.05)
        return rows


def test_predict_is_logged_with_its_number_of_rows(client: Client, service: Service) -> None:
    model = Logged(Doubler(), client, "m", version=3)
    assert model.predict([1, 2, 3]) == [2, 4, 6] and model([1]) == [2] and model.predict.__doc__ == "Double them."
    assert client.flush()
    records = list(service.records.values())
    assert [(r["model_name"], r["model_version"], r["metadata"]) for r in records] == [
        ("m", "3", {"rows": 3}),
        ("m", "3", {"rows": 1}),
    ]


def test_a_call_that_raises_is_a_failure_and_the_exception_goes_on(client: Client, service: Service) -> None:
    with pytest.raises(TypeError):
        Logged(Doubler(), client, "m").predict(None)
    assert client.flush() and [r["was_successful"] for r in service.records.values()] == [False]


def test_all_else_is_the_models_own(client: Client, service: Service) -> None:
    inner = Doubler()
    model = Logged(inner, client, "m")
    model.unit = "ft2"
    model.fit([1])
    assert inner.unit == model.unit == "ft2" and inner.fitted and not hasattr(model, "none")
    assert client.flush() and not service.records


def test_a_method_that_is_replaced_is_the_one_that_is_called(client: Client, service: Service) -> None:
    model = Logged(Doubler(), client, "m")
    model.predict([1])
    model.predict = lambda rows: [0]
    assert model.predict([1]) == [0] and client.flush() and len(service.records) == 2


def test_an_async_method_is_timed_to_its_result(client: Client, service: Service) -> None:
    assert asyncio.run(Logged(Later(), client, "m").predict([1])) == [1]
    assert client.flush()
    [record] = service.records.values()
    assert record["duration_ms"] >= 50


class Slow:
    """Answers later, in each of the ways that a function may."""

    async def __call__(self, rows: Any) -> Any:
        await asyncio.sleep(0.05)
        raise ValueError("below zero")

    def predict(self, rows: Any) -> Any:
        return self(rows)

    def generate(self, rows: Any) -> Any:
        def steps() -> Iterator[Any]:
            yield from rows
            time.sleep(0.05)
            raise ValueError("below zero")

        return steps()

    async def transform(self, rows: Any) -> Any:
        return self.encode(rows)

    async def encode(self, rows: Any) -> Any:
        for row in rows:
            yield row
        await self(rows)


async def read(steps: AsyncIterator[Any]) -> None:
    async for _ in steps:
        pass


async def read_later(steps: Any) -> None:
    await read(await steps)


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("__call__", asyncio.run),
        ("predict", asyncio.run),
        ("generate", list),
        ("encode", lambda steps: asyncio.run(read(steps))),
        ("transform", lambda steps: asyncio.run(read_later(steps))),
    ],
)
def test_an_answer_that_comes_later_is_logged_as_it_ends(
    client: Client, service: Service, method: str, use: Callable[[Any], Any]
) -> None:
    model = Logged(Slow(), client, "m")
    with pytest.raises(ValueError):
        use(model([1, 2]) if method == "__call__" else getattr(model, method)([1, 2]))
    assert client.flush()
    [record] = service.records.values()
    assert record["error"] == "ValueError: below zero" and record["duration_ms"] >= 50
    assert record["metadata"] == {"rows": 2}


def test_a_function_may_be_the_model(client: Client, service: Service) -> None:
    async def later(rows: Any) -> Any:
        await asyncio.sleep(0.05)
        return rows

    assert asyncio.run(Logged(later, client, "m")([1])) == [1]
    assert asyncio.run(Logged(functools.partial(later, [1, 2]), client, "m")()) == [1, 2]
    assert client.flush()
    assert len(service.records) == 2 and all(record["duration_ms"] >= 50 for record in service.records.values())


def test_a_pickled_model_logs_too(client: Client, service: Service) -> None:
    model = pickle.loads(pickle.dumps(Logged(Doubler(), client, "m", methods=["predict"])))
    assert model.predict([1]) == [2] and model([1]) == [2]
    assert model._options[0].close() and len(service.records) == 1


def test_scikit_learns_models_are_logged(client: Client, service: Service) -> None:
    pytest.importorskip("sklearn")
    from sklearn.dummy import DummyClassifier

    model = Logged(DummyClassifier().fit([[1], [2]], [0, 1]), client, "m")
    assert len(model.predict([[1], [2], [3]])) == 3 and model.predict_proba([[1]]).shape == (1, 2)
    assert client.flush() and sorted(r["metadata"]["rows"] for r in service.records.values()) == [1, 3]
