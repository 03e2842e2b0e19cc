"""Predictions that come at the same time, or in a batch, are stored together, each as if it had come alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import cast
from uuid import uuid4

import pytest
from flask_migrate import upgrade
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from app.application.predictions import Batch, PredictionColumns
from app.domain.errors import BehindRetention, StorageUnavailable
from app.domain.predictions import Prediction
from app.infrastructure.postgres.database import Database
from app.infrastructure.prediction_store import PostgresPredictionStore
from conftest import Server, make_app
from support.scratch import empty_database

AT = datetime(2025, 6, 9, 12, 0, 0, 123456, tzinfo=timezone.utc)


def outcomes_of(store: PostgresPredictionStore, predictions: list[Prediction]) -> list[tuple[Prediction, bool]]:
    """What becomes of predictions that are stored together, of which none fails."""
    return cast(list[tuple[Prediction, bool]], store._add_group(predictions))


@pytest.fixture
def own(server: Server) -> Iterator[Database]:
    database = Database(server.url, pool_size=1, max_overflow=0)
    yield database
    database.engine.dispose()


@pytest.fixture
def store(own: Database) -> PostgresPredictionStore:
    return PostgresPredictionStore(own)


@pytest.fixture
def store_from_2025(server: Server) -> Iterator[PostgresPredictionStore]:
    """A database of its own, in which retention has dropped what was before 2025."""
    with empty_database(server) as url:
        with make_app(url, pool_size=1).app_context():
            upgrade()
        database = Database(url, pool_size=1, max_overflow=0)
        database.count("UPDATE prediction_stats_state SET raw_from = '2025-01-01Z'", {})
        yield PostgresPredictionStore(database)
        database.engine.dispose()


def test_a_group_is_stored_in_one_statement_and_each_prediction_gets_an_id(
    own: Database, store: PostgresPredictionStore, model: str
) -> None:
    assert own.storage_engine, "the first of a process asks for it"
    statements: list[str] = []
    event.listen(own.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    predictions = [Prediction(model, float(i), i % 2 == 0, AT + timedelta(seconds=i)) for i in range(10)]
    outcomes = store._add_group(predictions)
    assert len(statements) == 1
    assert [outcome[1] for outcome in outcomes if not isinstance(outcome, BaseException)] == [True] * 10
    stored = [outcome[0] for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert [store.get(prediction.id or 0) for prediction in stored] == stored


def test_a_prediction_stored_in_a_group_is_the_same_as_one_stored_alone(
    store: PostgresPredictionStore, model: str
) -> None:
    metadata = {"a": [1, 2.5, None], "ключ": {"b": "\\u0041"}}
    prediction = Prediction(model, 0.1 + 0.2, False, AT, "v%s", 'it\'s a "tab"\t\\ and ü 🙂', metadata, uuid4())
    other = Prediction(model, 1e292, True, AT)
    (together, _), _ = outcomes_of(store, [prediction, other])
    found = store.get(together.id or 0)
    assert found is not None
    assert found == together
    assert vars(found) | {"id": None} == vars(prediction)


ODD = [
    "NULL",
    "null",
    "",
    "a,b",
    "{a}",
    '"',
    "\\",
    '\\"',
    "\\n",
    "\n",
    "\x01\t\x7f\u2028",
    " a ",
    "%s",
    "'; --",
    "ü 🙂",
    "\\x41",
]


def test_every_text_of_a_batch_is_stored_as_it_is(own: Database, store: PostgresPredictionStore, model: str) -> None:
    predictions = [
        Prediction(f"{model}{text}", 0.1 + i, i % 2 == 0, AT, text, text, {text: [text, {"a": None}]}, uuid4())
        for i, text in enumerate(ODD)
    ]
    plain = Prediction(model, 1e292, True, AT)
    added = store.add_many(
        Batch(PredictionColumns.together([PredictionColumns.of(prediction) for prediction in [*predictions, plain]]))
    )
    assert added.predictions == len(predictions) + 1
    ids = own.rows("SELECT id FROM prediction_log WHERE starts_with(model_name, %(model)s)", {"model": model})
    stored = [prediction for (id,) in ids if (prediction := store.get(id))]
    assert sorted((replace(prediction, id=None) for prediction in stored), key=repr) == sorted(
        [*predictions, plain], key=repr
    )


def test_of_a_request_that_comes_twice_in_a_group_one_is_stored_and_both_are_told_of_it(
    store: PostgresPredictionStore, model: str
) -> None:
    prediction = Prediction(model, 1.0, True, AT, request_id=uuid4())
    (first, is_new), (second, is_new_again) = outcomes_of(store, [prediction, prediction])
    assert first == second
    assert sorted([is_new, is_new_again]) == [False, True]


def test_a_retry_in_a_group_gives_back_what_was_stored_before(store: PostgresPredictionStore, model: str) -> None:
    prediction = Prediction(model, 1.0, True, AT, request_id=uuid4())
    before, _ = store.add(prediction)
    (again, is_new), (_, other_is_new) = outcomes_of(store, [prediction, Prediction(model, 2.0, True, AT)])
    assert (again, is_new, other_is_new) == (before, False, True)


def test_a_prediction_behind_retention_is_refused_alone(store_from_2025: PostgresPredictionStore, model: str) -> None:
    late = Prediction(model, 1.0, True, AT - timedelta(days=365))
    refused, stored = store_from_2025._add_group([late, Prediction(model, 2.0, True, AT)])
    assert isinstance(refused, BehindRetention)
    assert not isinstance(stored, BaseException)
    assert stored[1]


def test_if_the_database_is_away_none_of_a_group_is_tried_again(model: str) -> None:
    store = PostgresPredictionStore(Database("postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    with pytest.raises(StorageUnavailable):
        outcomes_of(store, [Prediction(model, 1.0, True, AT)] * 2)


@pytest.mark.parametrize("statement", ["UPDATE prediction_log SET duration_ms = 9", "TRUNCATE prediction_log"])
def test_the_log_can_be_neither_changed_nor_emptied(own: Database, model: str, statement: str) -> None:
    PostgresPredictionStore(own).add(Prediction(model, 1.0, True, datetime.now(timezone.utc)))
    with pytest.raises(DBAPIError, match="inserts and deletes only"):
        own.count(statement, {})
