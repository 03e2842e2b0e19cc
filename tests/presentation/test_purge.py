"""DELETE /api/v1/predictions and `flask predictions purge`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from structlog.testing import capture_logs

from app.application.purge import Purge, PurgeFilters
from app.domain.instants import DAY, HOUR, MINUTE
from app.infrastructure.postgres.database import Database
from app.infrastructure.purge_store import PostgresPurgeStore
from app.presentation.resources import purge as resource
from app.presentation.resources.purge import EXAMPLE, PurgedSchema
from conftest import Server

URL = "/api/v1/predictions"
NOW = datetime.now(timezone.utc)
INSERT = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT %(at)s, %(model)s, %(version)s, n, true FROM generate_series(1, %(number)s) AS n
"""
MOVE_CHUNKS = "SELECT {}(chunk, true) FROM show_chunks('prediction_log') AS chunk"
SCAN = "SELECT count(*) FROM prediction_log WHERE model_name = %(model)s"
NOTES = "SELECT count(*) FROM prediction_invalidation WHERE invalid_from >= %(start)s AND invalid_to <= %(end)s"

Put = Callable[..., None]


@pytest.fixture
def put(database: Engine, model: str) -> Put:
    """Insert so many predictions at the same time."""

    def put(age: timedelta, number: int = 1, version: str = "1", name: str = model) -> None:
        values = {"at": NOW - age, "number": number, "version": version, "model": name}
        with database.connect() as connection:
            connection.exec_driver_sql(INSERT, values)

    return put


@pytest.fixture
def counted(client: FlaskClient, database: Engine, model: str) -> Callable[[], int]:
    """The predictions of the model that there are; the statistics say the same."""

    def counted() -> int:
        with database.connect() as connection:
            rows = int(connection.exec_driver_sql(SCAN, {"model": model}).scalar_one())
        answer = client.get("/api/v1/stats", query_string={"model_name": model}).json or {}
        assert answer["total_requests"] == rows
        return rows

    return counted


def purge(client: FlaskClient, **query: Any) -> dict[str, Any]:
    response = client.delete(URL, query_string=query)
    assert response.status_code == 200, response.text
    assert PurgedSchema().validate(dict(response.json)) == {}
    return dict(response.json)


def test_a_model_is_removed_from_the_log_the_statistics_and_the_list(
    client: FlaskClient, put: Put, counted: Callable[[], int], refresh: Callable[[], None], model: str
) -> None:
    for age in (MINUTE, 5 * HOUR, 3 * DAY):
        put(age, 2)
        put(age, 3, "2")
        put(age, 1, name=f"{model}-other")
    refresh()
    assert counted() == 15
    answer = {"complete": True, "aggregates_deleted": False, "aggregates_kept_before": None}
    assert purge(client, model_name=model) == {"deleted": 15} | answer
    assert counted() == 0
    assert client.get("/api/v1/models", query_string={"model_name": model}).json == []
    (other,) = client.get("/api/v1/models", query_string={"model_name": f"{model}-other"}).json or []
    assert other["all_time"]["total_requests"] == 3
    refresh()
    assert counted() == 0
    assert purge(client, model_name=model) == {"deleted": 0} | answer


def test_a_version_is_removed_and_the_others_stay(
    client: FlaskClient, put: Put, counted: Callable[[], int], model: str
) -> None:
    put(HOUR, 2)
    put(HOUR, 3, "2")
    assert purge(client, model_name=model, model_version="2")["deleted"] == 3
    assert counted() == 2
    versions = client.get("/api/v1/models", query_string={"model_name": model}).json or []
    assert [entry["model_version"] for entry in versions] == ["1"]


def test_a_range_is_half_open(client: FlaskClient, put: Put, counted: Callable[[], int], model: str) -> None:
    for hours in (1, 2, 3, 4):
        put(hours * HOUR)
    range = {"from": (NOW - 3 * HOUR).isoformat(), "to": (NOW - HOUR).isoformat()}
    assert purge(client, model_name=model, **range)["deleted"] == 2
    assert counted() == 2


def test_a_range_without_a_model_removes_all_models(client: FlaskClient, put: Put, model: str) -> None:
    at = 6000 * DAY
    put(at)
    put(at, name=f"{model}-other")
    range = {"from": (NOW - at).isoformat(), "to": (NOW - at + timedelta(seconds=1)).isoformat()}
    assert purge(client, **range)["deleted"] == 2


def test_a_prediction_is_removed_by_its_request_id(
    client: FlaskClient, log: Any, counted: Callable[[], int], model: str
) -> None:
    ids = [str(uuid4()), str(uuid4())]
    for id in ids:
        log(request_id=id, timestamp=NOW.isoformat())
    assert purge(client, request_id=ids[0])["deleted"] == 1
    assert counted() == 1
    assert purge(client, request_id=ids[0])["deleted"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "model_name"),
        ({"model_version": "1"}, "model_name"),
        ({"model_name": ""}, "model_name"),
        ({"request_id": "1"}, "request_id"),
        ({"model_version": "1", "from": "2025-06-01"}, "model_version"),
        ({"from": "2025-06-02", "to": "2025-06-01"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"model": "m", "from": "2025-06-01"}, "model"),
    ],
)
def test_nonsense_is_refused_and_nothing_removed(
    client: FlaskClient, log: Any, counted: Callable[[], int], query: dict[str, str], field: str
) -> None:
    log()
    response = client.delete(URL, query_string=query)
    assert response.status_code == 422, response.text
    assert list((response.json or {})["errors"]["query"]) == [field]
    assert counted() == 1


@pytest.fixture
def by_threes(server: Server) -> Iterator[Purge]:
    """A purge that removes three predictions at a time."""
    database = Database(server.url, pool_size=1)
    yield Purge(PostgresPurgeStore(database, piece=3))
    database.engine.dispose()


@pytest.fixture
def compressed(database: Engine) -> Iterator[None]:
    """All rows that there are lie in the columnstore, for as long as the test runs."""
    for function in ("compress_chunk", "decompress_chunk"):
        with database.connect() as connection:
            connection.exec_driver_sql(MOVE_CHUNKS.format(function))
        if function == "compress_chunk":
            yield


@pytest.mark.parametrize("is_compressed", [False, True])
def test_it_may_be_given_up_after_any_piece_and_goes_on_when_it_is_sent_again(
    by_threes: Purge,
    put: Put,
    counted: Callable[[], int],
    refresh: Callable[[], None],
    server: Server,
    request: pytest.FixtureRequest,
    model: str,
    is_compressed: bool,
) -> None:
    put(HOUR, 8)  # more than a piece at one instant
    put(2 * DAY, 4)
    put(9 * DAY, 4)
    refresh()
    if is_compressed:
        if server.engine != "timescale":
            pytest.skip("only TimescaleDB has a columnstore")
        request.getfixturevalue("compressed")
    filters, now = PurgeFilters(model_name=model), datetime.now(timezone.utc)
    assert by_threes.count(filters, now) == 16
    left = 16
    for purged in by_threes.run(filters, now):
        assert counted() == left - purged.deleted
        if purged.deleted >= 7:
            break
    left = counted()
    assert 0 < left < 16
    for purged in by_threes.run(filters, now):
        assert counted() == left - purged.deleted
    assert (purged.deleted, purged.is_complete, counted()) == (left, True, 0)


def test_a_purge_that_takes_long_says_that_there_is_more(
    client: FlaskClient, put: Put, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(HOUR)
    monkeypatch.setattr(resource, "MAX_PURGE_S", -1.0)
    assert purge(client, model_name=model)["complete"] is False


def test_an_hour_of_changes_is_noted_once(
    client: FlaskClient, put: Put, server: Server, database: Engine, refresh: Callable[[], None], model: str
) -> None:
    if server.engine != "timescale":
        pytest.skip("only TimescaleDB notes changes")
    hour = (NOW - 4000 * DAY).replace(minute=0, second=0, microsecond=0)
    for minute in range(60):
        put(NOW - hour - minute * MINUTE)
    refresh()
    with database.connect() as connection, ExitStack() as stack:
        if server.has_jobs:
            # The job refreshes committed invalidations only: this transaction holds it up until they are counted.
            stack.enter_context(connection.execution_options(isolation_level="READ COMMITTED").begin())
            connection.exec_driver_sql("SELECT * FROM prediction_stats_holder FOR UPDATE")
        purge(client, model_name=model)
        notes = connection.exec_driver_sql(NOTES, {"start": hour, "end": hour + HOUR}).scalar_one()
    assert notes == 1


def test_the_log_names_the_caller_the_filters_and_the_number_of_a_purge(
    client: FlaskClient, put: Put, model: str
) -> None:
    put(HOUR, 3)
    with capture_logs() as lines:
        purge(client, model_name=model, to=NOW.isoformat())
    (line,) = [line for line in lines if line.get("action") == "predictions.purged"]
    assert (line["by"], line["filter_model_name"]) == ("a caller without a key from 127.0.0.1", model)
    assert line["deleted"] == 3
    assert (line["filter_end"], line["complete"]) == (str(NOW), True)


@pytest.fixture
def flask(app: Flask) -> Callable[..., Result]:
    def flask(*arguments: str, **options: Any) -> Result:
        return app.test_cli_runner().invoke(args=["predictions", "purge", *arguments], **options)

    return flask


def test_the_command_tells_the_number_and_removes_nothing_in_a_dry_run(
    flask: Callable[..., Result], put: Put, counted: Callable[[], int], model: str
) -> None:
    put(HOUR, 3)
    result = flask("--model", model, "--dry-run")
    assert (result.exit_code, counted()) == (0, 3)
    assert "3 predictions to remove." in result.output


def test_the_command_asks_before_it_removes(
    flask: Callable[..., Result], put: Put, counted: Callable[[], int], model: str
) -> None:
    put(HOUR, 3)
    assert (flask("--model", model, input="n\n").exit_code, counted()) == (1, 3)
    result = flask("--model", model, input="y\n")
    assert (result.exit_code, counted()) == (0, 0)
    assert "3 predictions removed." in result.stdout


def test_the_command_takes_the_same_filters(
    flask: Callable[..., Result], put: Put, counted: Callable[[], int], model: str
) -> None:
    for hours in (1, 2, 3):
        put(hours * HOUR)
    since, until = (NOW - 2 * HOUR).isoformat(), (NOW - HOUR).isoformat()
    assert "1 prediction removed." in flask("--model", model, "--from", since, "--to", until, "--yes").stdout
    assert counted() == 2
    assert flask("--request-id", str(uuid4()), "--yes").stdout.startswith("0 predictions")


def test_the_command_refuses_to_remove_everything(flask: Callable[..., Result]) -> None:
    result = flask("--yes")
    assert result.exit_code == 1
    assert "model_name: Missing" in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("option", ["--model", "--model-version"])
def test_the_command_refuses_a_name_that_is_no_text(flask: Callable[..., Result], model: str, option: str) -> None:
    result = flask("--model", model, option, os.fsdecode(b"\xff"), "--dry-run")
    assert result.exit_code == 1
    assert f"model_{'name' if option == '--model' else 'version'}: Must be valid Unicode" in result.stderr


def test_the_example_is_an_answer_as_documented() -> None:
    assert PurgedSchema().validate(EXAMPLE) == {}


def test_an_empty_version_removes_the_predictions_without_a_version_alone(
    client: FlaskClient, put: Put, counted: Callable[[], int], model: str
) -> None:
    put(HOUR, 2, "")
    put(HOUR, 3, "1")
    assert purge(client, model_name=model, model_version="")["deleted"] == 2
    assert counted() == 3


@pytest.mark.parametrize("bound", ["from", "to"])
def test_an_empty_bound_is_refused_and_does_not_remove_the_whole_model(
    client: FlaskClient, app: Flask, put: Put, counted: Callable[[], int], model: str, bound: str
) -> None:
    put(HOUR)
    assert client.delete(URL, query_string={"model_name": model, bound: ""}).status_code == 422
    command = ["predictions", "purge", "--yes", "--model", model, f"--{bound}", ""]
    assert app.test_cli_runner().invoke(args=command).exit_code == 1
    assert counted() == 1
