"""Retention and purges of what clients have summarised, on a database of their own: edges are for all of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import Engine, create_engine

from app.application.purge import Purge, PurgeFilters
from app.domain.instants import DAY, HOUR, MINUTE
from app.presentation.services import EXTENSION
from conftest import Server, make_app
from support.days import today
from support.scratch import empty_database
from support.summaries import prediction, summary

MORNING = timedelta(hours=10)
KEPT = {"raw_retention": 10 * DAY, "minute_retention": 20 * DAY}
DAYS = 25

AGE_ALL = """
ALTER TABLE prediction_summary DISABLE TRIGGER USER;
UPDATE prediction_summary SET reported_at = now() - INTERVAL '32 days';
ALTER TABLE prediction_summary ENABLE TRIGGER USER
"""
# Citus disables the triggers of shards on the nodes alone.
ON_SHARDS = "SELECT run_command_on_shards('prediction_summary', %s)"
ROLLUPS = [f"prediction_summary_{family}{level}" for family in ("", "latency_") for level in ("minute", "hour", "day")]


class House:
    """A service that keeps single predictions for ten days and minutes for twenty."""

    def __init__(self, app: Flask, engine: Engine, is_distributed: bool) -> None:
        self.client, self.flask, self.engine = app.test_client(), app.test_cli_runner(), engine
        self.piecewise: Purge = app.extensions[EXTENSION].purge
        self.is_distributed = is_distributed
        self.today = today()

    def send(self, model: str, *moments: datetime, status: int = 200) -> Any:
        sent = [summary([prediction(model, at, 4.0), prediction(model, at, 9.0)]) for at in moments]
        response = self.client.post("/api/v1/predict-logs", json=sent)
        assert response.status_code == status, response.text
        return response.get_json()

    def stats(self, model: str, start: datetime | None = None, end: datetime | None = None) -> Any:
        """Of the last thirty days, unless it is said otherwise."""
        start, end = start or self.today - 30 * DAY, end or self.today
        query = {"model_name": model, "from": start.isoformat(), "to": end.isoformat(), "percentiles": "100"}
        response = self.client.get("/api/v1/stats", query_string=query)
        assert response.status_code == 200, response.text
        return response.get_json()

    def retain(self) -> None:
        for command in (["stats", "refresh"], ["lifecycle", "retain"]):
            done = self.flask.invoke(args=command)
            assert done.exit_code == 0, done.output

    def count(self, relation: str, model: str) -> int:
        with self.engine.connect() as connection:
            statement = f"SELECT count(*) FROM {relation} WHERE model_name = %(model)s"
            return int(connection.exec_driver_sql(statement, {"model": model}).scalar_one())

    def purge(self, **query: str) -> Any:
        response = self.client.delete("/api/v1/predictions", query_string=query)
        assert response.status_code == 200, response.text
        return response.get_json()


@pytest.fixture(scope="module")
def house(server: Server) -> Iterator[House]:
    with empty_database(server) as url:
        app = make_app(url, **KEPT, pool_size=2 if server.concurrent else 1)
        with app.app_context():
            upgrade()
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
        house = House(app, engine, server.engine == "citus")
        for model in ("kept", "purged", "narrowed"):
            house.send(model, *(house.today - day * DAY + MORNING for day in range(1, DAYS + 1)))
        house.retain()
        yield house
        engine.dispose()


def test_what_was_summarised_is_counted_as_long_as_the_aggregates(house: House) -> None:
    found = house.stats("kept")
    assert (found["total_requests"], found["summarized"], found["percentiles"]) == (2 * DAYS, 2 * DAYS, {"100": 9})
    assert house.count("prediction_summary_minute", "kept") == 20
    assert house.count("prediction_summary_day", "kept") == DAYS


def test_a_range_behind_the_edge_of_minutes_is_widened_to_whole_hours(house: House) -> None:
    start = house.today - 24 * DAY + MORNING + 30 * MINUTE
    found = house.stats("kept", start, start + HOUR)
    assert (found["cut_to_request"], found["summarized"]) == (False, 2)


def test_a_summary_behind_the_edge_is_refused_and_changes_nothing(house: House) -> None:
    answer = house.send("late", house.today - 12 * DAY, house.today - DAY, status=207)
    assert [(each["index"], list(each["errors"])) for each in answer["rejected"]] == [(0, ["timestamp"])]
    assert house.stats("late")["summarized"] == 2


def test_single_summaries_go_when_they_cannot_be_sent_again_and_their_sums_stay(house: House) -> None:
    assert house.count("prediction_summary", "kept") == DAYS
    with house.engine.connect() as connection:
        for statement in AGE_ALL.split(";"):
            if house.is_distributed:
                on_shards = statement.replace("prediction_summary", "%s")
                connection.exec_driver_sql(ON_SHARDS, (on_shards,))
            else:
                connection.exec_driver_sql(statement)
    house.retain()
    assert house.count("prediction_summary", "kept") == 0
    assert house.stats("kept")["summarized"] == 2 * DAYS


def test_a_purge_of_a_range_stops_at_the_edge_of_single_predictions(house: House) -> None:
    span = {"from": (house.today - 15 * DAY).isoformat(), "to": (house.today - 5 * DAY).isoformat()}
    assert house.purge(model_name="narrowed", **span)["deleted"] == 2 * 5
    assert house.stats("narrowed")["summarized"] == 2 * (DAYS - 5)
    assert house.stats("narrowed", house.today - 10 * DAY, house.today - 5 * DAY)["summarized"] == 0
    assert house.stats("narrowed", house.today - 15 * DAY, house.today - 10 * DAY)["summarized"] == 2 * 5


@pytest.mark.parametrize(("age", "number"), [(None, 10), (4 * DAY, 8)])
def test_a_purge_goes_day_by_day_and_may_be_given_up_after_any(
    house: House, age: timedelta | None, number: int
) -> None:
    model = f"of {number}"
    house.send(model, *(house.today - day * DAY + MORNING for day in range(1, 6)))
    filters = PurgeFilters(model, start=house.today - age if age else None)
    assert house.piecewise.count(filters, house.today) == number
    first = next(house.piecewise.run(filters, house.today))
    assert (first.deleted, house.stats(model)["summarized"]) == (2, 8)
    for purged in house.piecewise.run(filters, house.today):
        assert house.stats(model)["summarized"] == 8 - purged.deleted
    assert (purged.deleted, purged.is_complete) == (number - 2, True)


def test_a_purge_of_a_range_removes_the_summaries_of_all_models(house: House) -> None:
    night = house.today - 3 * DAY + 3 * HOUR
    for model in ("one", "other"):
        house.send(model, night, night + HOUR)
    assert house.purge(**{"from": night.isoformat(), "to": (night + HOUR).isoformat()})["deleted"] == 4
    assert [house.stats(model)["summarized"] for model in ("one", "other", "kept")] == [2, 2, 2 * DAYS]


def test_a_purge_of_a_model_leaves_nothing_of_it(house: House) -> None:
    assert house.purge(model_name="purged")["deleted"] == 2 * DAYS
    assert house.stats("purged")["total_requests"] == 0
    assert [house.count(relation, "purged") for relation in ("prediction_summary", "prediction_model", *ROLLUPS)] == (
        [0] * (2 + len(ROLLUPS))
    )
