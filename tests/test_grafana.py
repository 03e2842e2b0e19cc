"""Grafana: each query of its panels, variables and alerts runs as the role that only reads, and agrees with the API."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg2
import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient
from psycopg2 import InterfaceError, OperationalError, errors
from psycopg2.errors import InvalidTextRepresentation
from psycopg2.extensions import connection as DriverConnection
from sqlalchemy import Connection, Engine, create_engine, make_url

from app.domain.sketch import RELATIVE_ERROR, bin_of, value_of
from app.domain.summaries import Summary
from app.infrastructure import summary_rows
from app.infrastructure.roles import reader_limits, rights
from app.presentation.services import EXTENSION
from conftest import Server, materialize
from support.grafana_sql import Value, Variable, View, seconds, whole_minutes

GRAFANA = Path(__file__).parents[1] / "grafana"
DASHBOARDS = {name: json.loads((GRAFANA / f"dashboards/{name}.json").read_text()) for name in ("overview", "model")}
RULES = {
    rule["uid"]: rule
    for group in yaml.safe_load((GRAFANA / "provisioning/alerting/predlog.yml").read_text())["groups"]
    for rule in group["rules"]
}
PANELS = {
    f"{name}-{panel['id']}-{panel['title']}": (name, panel)
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
}
PASSWORD = "a password that only tests know"
# One range for each coarsest level, none of them on its seams.
SPANS = {
    "minute": timedelta(hours=5, minutes=47),
    "hour": timedelta(days=4, minutes=13),
    "day": timedelta(days=80, hours=7, minutes=31),
}
AGES = [timedelta(minutes=20), timedelta(hours=4), timedelta(days=3, hours=5), timedelta(days=30), timedelta(days=79)]
NEAR = RELATIVE_ERROR * (1 + 1e-9)

Row = Mapping[str, Any]
Read = Callable[[str], list[Row]]

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful, error)
SELECT * FROM unnest(%(timestamp)s::timestamptz[], %(model_name)s::text[], %(model_version)s::text[],
                     %(duration_ms)s::float8[], %(was_successful)s::boolean[], %(error)s::text[])
"""
INSERT_REPORT = """
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count)
VALUES (%(id)s, %(timestamp)s, %(model_name)s, 'queue_full', %(count)s)
"""


@dataclass(frozen=True)
class Known:
    """What was logged: three models that nobody else logs, one of them silent by now."""

    models: tuple[str, str, str]
    predictions: tuple[dict[str, Any], ...]
    now: datetime

    @property
    def silent(self) -> str:
        return self.models[2]

    @property
    def summarised(self) -> str:
        return self.models[0].removesuffix("-a") + "-summarised"

    def of(self, models: tuple[str, ...], start: datetime, end: datetime) -> list[dict[str, Any]]:
        return [c for c in self.predictions if c["model_name"] in models and start <= c["timestamp"] < end]


def driver_of(connection: Connection) -> DriverConnection:
    return cast(DriverConnection, connection.connection.driver_connection)


@pytest.fixture(scope="module")
def known(server: Server, database: Engine) -> Known:
    name, dice = f"grafana-{uuid4().hex}", random.Random(7)
    models = (f"{name}-a", f"{name}-b's", f"{name}-silent")
    now = datetime.now(timezone.utc)
    predictions = []
    for model in models:
        for age in AGES:
            for _ in range(60):
                timestamp = now - age - timedelta(minutes=dice.uniform(0, 90))
                if model.endswith("-silent") and timestamp > now - timedelta(minutes=40):
                    continue
                predictions.append(_prediction(dice, timestamp, model))
    predictions += [
        _prediction(dice, now - timedelta(minutes=dice.uniform(4, 7)), model) for model in models[:2] for _ in range(50)
    ]
    predictions += [_prediction(dice, now - timedelta(hours=2), models[2]) for _ in range(60)]
    with database.connect() as connection:
        connection.exec_driver_sql(INSERT, {key: [each[key] for each in predictions] for key in predictions[0]})
        for age, count in ((timedelta(minutes=9), 7), (timedelta(days=2), 5)):
            report = {
                "id": str(uuid4()),
                "timestamp": whole_minutes(now - age),
                "model_name": models[0],
                "count": count,
            }
            connection.exec_driver_sql(INSERT_REPORT, report)
        ages = timedelta(minutes=5), timedelta(minutes=50), timedelta(days=2)
        summaries = [_summary(f"{name}-summarised", now - age) for age in ages]
        summaries += [_summary(f"{name}-summarised-silent", now - age) for age in ages[1:]]
        connection.exec_driver_sql(summary_rows.INSERT, {"summaries": summary_rows.as_json(summaries)})
        if server.engine == "timescale":
            materialize(connection)
    return Known(models, tuple(predictions), now)


def _summary(model: str, at: datetime) -> Summary:
    """Predictions that a client has only counted: they are in the figures, and not among the single ones."""
    bins = [(bin_of(2.5), 60), (bin_of(4000.0), 40)]
    return Summary(uuid4(), model, "2", whole_minutes(at), 100, 90, 60 * 2.5 + 40 * 4000.0, 2.5, 4000.0, bins)


def _prediction(dice: random.Random, timestamp: datetime, model: str) -> dict[str, Any]:
    good = dice.random() > (0.3 if model.endswith("s") else 0.02)
    return {
        "timestamp": timestamp,
        "model_name": model,
        "model_version": dice.choice(["", "1", "2"]),
        "duration_ms": 0.0 if dice.random() < 0.02 else dice.lognormvariate(6.5 if model.endswith("s") else 3, 1),
        "was_successful": good,
        "error": None if good else "ValueError: it's 'broken'",
    }


@pytest.fixture(scope="module")
def reader(server: Server, app: Flask, database: Engine) -> Iterator[Read]:
    """Run one statement as the role that `flask grafana create-reader` makes."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREDLOG_READER_PASSWORD", PASSWORD)
        for _ in range(2):  # the second time it is there already
            done = app.test_cli_runner().invoke(args=["grafana", "create-reader"])
            assert done.exit_code == 0, done.output
            assert PASSWORD not in done.output
    url = make_url(server.url).set(username="predlog_reader", password=PASSWORD)
    engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1) if server.concurrent else database

    def read(sql: str) -> list[Row]:
        with engine.connect() as connection, closing(driver_of(connection).cursor()) as cursor:
            if not server.concurrent:  # one session for all: no client can log in as another role
                cursor.execute("BEGIN; SET LOCAL ROLE predlog_reader")
            try:
                cursor.execute(sql)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row)) for row in cursor.fetchall()] if names else []
            finally:
                if not server.concurrent:
                    cursor.execute("ROLLBACK")

    yield read
    if server.concurrent:
        engine.dispose()
    with database.connect() as connection:
        connection.exec_driver_sql("DROP OWNED BY predlog_reader")
        connection.exec_driver_sql("DROP ROLE predlog_reader")


@pytest.fixture(params=SPANS)
def view(request: pytest.FixtureRequest, server: Server, known: Known, reader: Read) -> Callable[..., View]:
    """Open a dashboard: its variables are asked for, one after the other, as Grafana does."""
    end = whole_minutes(known.now) - timedelta(minutes=2)
    return lambda name, **chosen: _open(
        name, View(end - SPANS[request.param], end, server.engine == "timescale", {}), reader, chosen
    )


def _open(name: str, view: View, read: Read, chosen: Mapping[str, Value]) -> View:
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] in ("custom", "textbox"):
            value: Value = variable["current"]["value"]
        else:
            options = [str(next(iter(row.values()))) for row in read(view.expand(variable["query"]))]
            value = chosen.get(variable["name"], options if variable["multi"] else options[0])
            assert set([value] if isinstance(value, str) else value) <= set(options)
        view = replace(
            view, variables={**view.variables, variable["name"]: Variable(value, variable.get("multi", False))}
        )
    return view


def query(view: View, read: Read, dashboard: str, title: str, kind: str = "") -> list[Row]:
    """The rows of a panel, every number a float."""
    found = [p for name, p in PANELS.values() if (name, p["title"]) == (dashboard, title) and kind in p["type"]]
    assert len(found) == 1, [panel["type"] for panel in found]
    return _rows(view, read, found[0])


def _rows(view: View, read: Read, panel: Mapping[str, Any]) -> list[Row]:
    sql = view.expand(panel["targets"][0]["rawSql"], panel.get("interval", ""), panel.get("maxDataPoints", 1000))
    return [{name: _plain(value) for name, value in row.items()} for row in read(sql)]


def _plain(value: Any) -> Any:
    return float(value) if hasattr(value, "as_tuple") or isinstance(value, int) else value


def _instant(value: Any) -> datetime:
    """The time of a point: without time_bucket() Grafana groups by seconds since 1970."""
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, timezone.utc)


def stats(client: FlaskClient, start: datetime, end: datetime, **parameters: Any) -> Any:
    """What the API says of the same predictions."""
    span = {"from": start.isoformat(), "to": end.isoformat()}
    response = client.get("/api/v1/stats", query_string={"percentiles": "50,95,99", **span, **parameters})
    assert response.status_code == 200, response.text
    return response.json


def agree(row: Row, answer: Mapping[str, Any]) -> None:
    """The figures that a row has are those of the API; percentiles within the sketch's bound."""
    known = {
        "Predictions": answer["total_requests"],
        "Error rate": answer["failed_requests"] / answer["total_requests"],
        "Mean": answer["average_duration_ms"],
        "Longest": answer["max_duration_ms"],
        "Completeness": answer["completeness"],
        "Dropped": answer["dropped"],
    }
    for name in row.keys() & known.keys():
        assert row[name] == pytest.approx(known[name], rel=1e-9), name
    for name in row.keys() & {"p50", "p95", "p99"}:
        assert row[name] == pytest.approx(answer["percentiles"][name[1:]], rel=NEAR), name


# --- what the panels show ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_has_something_to_show(panel: str, view: Callable[..., View], reader: Read, known: Known) -> None:
    dashboard, body = PANELS[panel]
    chosen = list(known.models) if dashboard == "overview" else known.models[1]
    rows = _rows(view(dashboard, model=chosen), reader, body)
    assert rows
    if body["targets"][0]["format"] == "time_series":
        times = [_instant(row["time"]) for row in rows]
        assert times == sorted(times)
        assert {"metric", "value"} <= rows[0].keys() or all(
            isinstance(v, float) for k, v in rows[0].items() if k != "time"
        )


def test_what_clients_have_summarised_is_in_the_figures(
    view: Callable[..., View], reader: Read, known: Known, client: FlaskClient
) -> None:
    seen = view("overview", model=[known.summarised])
    answer = stats(client, seen.start, seen.end, model_name=known.summarised)
    assert answer["summarized"] in (100, 200, 300)
    for title in ("Predictions", "Error rate", "Latency"):
        [row] = query(seen, reader, "overview", title, "stat")
        agree(row, answer)
    [row] = query(seen, reader, "overview", "Models")
    agree(row, answer)


def test_the_overview_has_the_figures_of_the_api(
    view: Callable[..., View], reader: Read, known: Known, client: FlaskClient
) -> None:
    seen = view("overview", model=list(known.models))
    answer = stats(client, seen.start, seen.end, model_name=known.models, group_by="model_name")
    assert answer["dropped"] > 0
    for title in ("Predictions", "Error rate", "Latency", "Completeness"):
        [row] = query(seen, reader, "overview", title, "stat")
        agree(row, answer)
    groups = {group["model_name"]: group for group in answer["groups"]}
    rows = query(seen, reader, "overview", "Models")
    assert {row["Model"] for row in rows} == set(groups)
    for row in rows:
        agree(row, groups[row["Model"]])


def test_one_model_has_the_figures_of_the_api(
    view: Callable[..., View], reader: Read, known: Known, client: FlaskClient
) -> None:
    name = known.models[1]
    seen = view("model", model=name)
    answer = stats(client, seen.start, seen.end, model_name=name, group_by="model_version")
    for title in ("Predictions", "Error rate", "Latency", "Mean and longest"):
        [row] = query(seen, reader, "model", title, "stat")
        agree(row, answer)
    groups = {group["model_version"] or "(none)": group for group in answer["groups"]}
    rows = query(seen, reader, "model", "Versions")
    assert {row["Version"] for row in rows} == set(groups) == {"(none)", "1", "2"}
    assert sum(row["Share"] for row in rows) == pytest.approx(1)
    for row in rows:
        agree(row, groups[row["Version"]])


def test_a_chosen_version_has_the_figures_of_the_api(
    view: Callable[..., View], reader: Read, known: Known, client: FlaskClient
) -> None:
    seen = view("model", model=known.models[0], version=["2"])
    answer = stats(client, seen.start, seen.end, model_name=known.models[0], model_version="2")
    for title in ("Predictions", "Error rate", "Latency", "Mean and longest"):
        [row] = query(seen, reader, "model", title, "stat")
        agree(row, answer)


def test_each_point_of_time_has_the_figures_of_the_api(
    view: Callable[..., View], reader: Read, known: Known, client: FlaskClient
) -> None:
    name = known.models[1]
    seen = view("model", model=name)
    outcomes = query(seen, reader, "model", "Predictions", "timeseries")
    points = outcomes + query(seen, reader, "model", "Percentiles")
    width = timedelta(
        seconds=seconds(seen.expand("$__interval", "$step", PANELS["model-8-Predictions"][1]["maxDataPoints"]))
    )
    for row in random.Random(1).sample(points, min(len(points), 12)):
        start = _instant(row["time"])
        answer = stats(client, max(start, seen.start), min(start + width, seen.end), model_name=name)
        agree(row, answer)
        if "Failed" in row:
            assert (row["Succeeded"], row["Failed"]) == (answer["successful_requests"], answer["failed_requests"])
    predictions = known.of((name,), seen.start, seen.end)
    assert sum(row["Succeeded"] + row["Failed"] for row in outcomes) == len(predictions)


def test_a_series_for_each_model_or_version_adds_up(view: Callable[..., View], reader: Read, known: Known) -> None:
    seen = view("model", model=known.models[0])
    rows = query(seen, reader, "model", "Predictions by version")
    truth = Counter(each["model_version"] or "(none)" for each in known.of(known.models[:1], seen.start, seen.end))
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row["metric"]] += int(row["value"])
    assert counted == truth
    assert {row["metric"] for row in query(seen, reader, "model", "p95 by version")} == set(truth)


def test_the_heat_map_has_each_prediction_in_its_row(view: Callable[..., View], reader: Read, known: Known) -> None:
    seen = view("model", model=known.models[0])
    rows = query(seen, reader, "model", "Latency heat map")
    truth: Counter[int] = Counter()
    for each in known.of(known.models[:1], seen.start, seen.end):
        truth[math.ceil(10 * math.log10(max(value_of(bin_of(each["duration_ms"])), 0.1)))] += 1
    counted: Counter[int] = Counter()
    for row in rows:
        counted[round(10 * math.log10(float(row["metric"])))] += int(row["value"])
    assert +counted == truth
    assert set(counted) == set(range(min(truth), max(truth) + 1)), (
        "a row without predictions would be missing from the axis"
    )


@pytest.mark.parametrize("limit", ["0", "0.7", "120", "99999999"])
def test_the_share_of_predictions_under_a_duration_is_that_of_the_api(
    view: Callable[..., View], reader: Read, known: Known, client: FlaskClient, limit: str
) -> None:
    name = known.models[0]
    seen = view("model", model=name)
    seen = replace(seen, variables={**seen.variables, "under_ms": Variable(limit)})
    answer = stats(client, seen.start, seen.end, model_name=name, under_ms=limit)["under_ms"]
    (share,) = answer.values()
    [row] = query(seen, reader, "model", "At most $under_ms ms", "stat")
    assert share["low"] - 1e-9 <= row["Share"] <= share["high"] + 1e-9
    assert row["Share"] == pytest.approx(share["share"], abs=1e-6)
    points = query(seen, reader, "model", "At most $under_ms ms", "timeseries")
    assert points and all(0 <= point["value"] <= 1 for point in points)


def test_an_invalid_duration_is_an_error_and_no_sql(view: Callable[..., View], reader: Read, known: Known) -> None:
    seen = view("model", model=known.models[0])
    seen = replace(seen, variables={**seen.variables, "under_ms": Variable("1'); SELECT 1 --")})
    with pytest.raises(InvalidTextRepresentation):
        query(seen, reader, "model", "At most $under_ms ms", "stat")


def test_the_histogram_has_each_prediction_in_its_bar(view: Callable[..., View], reader: Read, known: Known) -> None:
    seen = view("model", model=known.models[0])
    rows = query(seen, reader, "model", "Histogram")
    truth: Counter[int] = Counter()
    for each in known.of(known.models[:1], seen.start, seen.end):
        truth[math.ceil(10 * math.log10(max(value_of(bin_of(each["duration_ms"])), 0.1)))] += 1
    counted = {round(10 * math.log10(float(row["Up to (ms)"]))): int(row["Predictions"]) for row in rows}
    assert {edge: number for edge, number in counted.items() if number} == truth
    assert list(counted) == list(range(min(truth), max(truth) + 1))


def test_the_lists_have_the_slowest_and_the_latest_failed_predictions(
    view: Callable[..., View], reader: Read, known: Known
) -> None:
    name = known.models[1]
    seen = view("model", model=name)
    predictions = known.of((name,), seen.start, seen.end)
    slowest = query(seen, reader, "model", "Slowest predictions")
    assert [row["Duration"] for row in slowest] == sorted((c["duration_ms"] for c in predictions), reverse=True)[:20]
    failed = query(seen, reader, "model", "Failed predictions")
    assert [row["Time"] for row in failed] == sorted(
        (c["timestamp"] for c in predictions if not c["was_successful"]), reverse=True
    )[:50]
    assert {row["Error"] for row in failed} == {"ValueError: it's 'broken'"}


def test_dropped_predictions_are_shown_by_reason(view: Callable[..., View], reader: Read, known: Known) -> None:
    seen = view("overview", model=list(known.models))
    rows = query(seen, reader, "overview", "Dropped predictions")
    assert {row["metric"] for row in rows} == {"queue_full"}
    assert sum(row["value"] for row in rows) == (7 if seen.end - seen.start < timedelta(days=1) else 12)


def test_a_model_that_was_not_called_lately_is_silent(view: Callable[..., View], reader: Read, known: Known) -> None:
    seen = view("overview", model=list(known.models))
    rows = [row for row in query(seen, reader, "overview", "Silent models", "table") if row["Model"] in known.models]
    assert [row["Model"] for row in rows] == [known.silent]
    last = max(each["timestamp"] for each in known.predictions if each["model_name"] == known.silent)
    assert rows[0]["Last prediction"] == whole_minutes(last)
    assert rows[0]["Silent for"] >= 40 * 60 - 120
    [count] = query(seen, reader, "overview", "Silent models", "stat")
    assert count["Silent models"] == len(query(seen, reader, "overview", "Silent models", "table")) >= 1


def test_the_aggregates_do_not_lag(view: Callable[..., View], reader: Read, known: Known) -> None:
    [row] = query(view("overview", model=list(known.models)), reader, "overview", "Aggregates")
    assert 0 <= row["Lag"] < 600
    assert row["Hours to repair"] >= 0


def test_a_dashboard_of_an_empty_log_shows_nothing_rather_than_an_error(server: Server, reader: Read) -> None:
    end = datetime(2001, 1, 1, tzinfo=timezone.utc)
    seen = View(end - timedelta(days=90), end, server.engine == "timescale", {})
    for name, dashboard in DASHBOARDS.items():
        for variable in dashboard["templating"]["list"]:
            options = [] if variable["type"] in ("custom", "textbox") else reader(seen.expand(variable["query"]))
            value: Value = [] if variable.get("multi") else str(next(iter(options[0].values()))) if options else ""
            value = variable["current"]["value"] if variable["type"] in ("custom", "textbox") else value
            seen = replace(seen, variables={**seen.variables, variable["name"]: Variable(value)})
        for dashboard_name, panel in PANELS.values():
            if dashboard_name == name:
                _rows(seen, reader, panel)


# --- alerts -----------------------------------------------------------------------------------------------------------


def firing(uid: str, server: Server, read: Read, now: datetime) -> dict[str, float]:
    """The value of each row that is over the rule's threshold, by its model."""
    rule = RULES[uid]
    question, threshold = rule["data"]
    span = question["relativeTimeRange"]
    view = View(
        now - timedelta(seconds=span["from"]), now - timedelta(seconds=span["to"]), server.engine == "timescale", {}
    )
    evaluator = threshold["model"]["conditions"][0]["evaluator"]
    assert (rule["condition"], threshold["model"]["expression"], evaluator["type"]) == ("B", "A", "gt")
    rows = read(view.expand(question["model"]["rawSql"]))
    values = {}
    for row in rows:
        [value] = [value for value in row.values() if isinstance(value, float)]
        if value > evaluator["params"][0]:
            values[row.get("model_name", "")] = value
    return values


def test_a_model_whose_predictions_fail_or_take_long_fires(
    server: Server, reader: Read, known: Known, client: FlaskClient
) -> None:
    good, bad, _ = known.models
    now = whole_minutes(known.now) - timedelta(minutes=2)
    answer = stats(client, now - timedelta(minutes=10), now, model_name=bad)
    failing = firing("predlog-error-rate", server, reader, now)
    assert failing[bad] == pytest.approx(answer["failed_requests"] / answer["total_requests"])
    slow = firing("predlog-p95", server, reader, now)
    assert slow[bad] == pytest.approx(answer["percentiles"]["95"], rel=0.25)  # a prediction itself, not between two
    assert good not in slow


def test_a_silent_model_fires_and_one_that_is_called_does_not(server: Server, reader: Read, known: Known) -> None:
    silent = firing("predlog-silent", server, reader, datetime.now(timezone.utc))
    assert silent[known.silent] > 35
    assert not silent.keys() & set(known.models[:2])


def test_the_rules_count_what_clients_have_summarised(server: Server, reader: Read, known: Known) -> None:
    now = whole_minutes(known.now) - timedelta(minutes=2)
    assert firing("predlog-error-rate", server, reader, now)[known.summarised] == pytest.approx(0.1)
    assert firing("predlog-p95", server, reader, now)[known.summarised] == pytest.approx(4000, rel=0.01)
    silent = firing("predlog-silent", server, reader, datetime.now(timezone.utc))
    assert silent[f"{known.summarised}-silent"] > 45
    assert known.summarised not in silent


def test_dropped_predictions_fire(server: Server, reader: Read, known: Known) -> None:
    dropped = firing("predlog-dropped", server, reader, datetime.now(timezone.utc))
    assert dropped[known.models[0]] == 12


def test_lagging_aggregates_fire(server: Server, reader: Read, known: Known, database: Engine) -> None:
    sql = RULES["predlog-lag"]["data"][0]["model"]["rawSql"]
    assert firing("predlog-lag", server, reader, known.now) == {}
    behind = sql.replace("FROM   prediction_stats_state", "FROM (SELECT now() - INTERVAL '1 hour' AS watermark) AS s")
    assert reader(behind) == [{"seconds": 3600.0}]


# --- the role ---------------------------------------------------------------------------------------------------------

CHANGES = {
    "insert": "INSERT INTO prediction_log SELECT * FROM prediction_log LIMIT 1",
    "update": "UPDATE prediction_stats_state SET generation = generation",
    "delete": "DELETE FROM prediction_log WHERE model_name = 'x'",
    "delete reports": "DELETE FROM prediction_dropped",
    "truncate": "TRUNCATE prediction_invalidation",
    "create a table": "CREATE TABLE reader_made (x integer)",
    "create a function": "CREATE FUNCTION reader_made() RETURNS integer LANGUAGE sql RETURN 1",
    "create a schema": "CREATE SCHEMA reader_made",
    "create a role": "CREATE ROLE reader_made",
    "drop": "DROP TABLE prediction_log",
    "alter": "ALTER TABLE prediction_log ADD COLUMN x integer",
    "index": "CREATE INDEX ON prediction_log (duration_ms)",
    "lock": "DO $$ BEGIN LOCK TABLE prediction_log IN SHARE MODE; END $$",
    "migrate": "UPDATE alembic_version SET version_num = 'x'",
    "read passwords": "SELECT rolpassword FROM pg_authid",
    "lock rows": "SELECT * FROM prediction_stats_state FOR UPDATE",
    "lock as writers do": "DO $$ BEGIN LOCK TABLE prediction_log IN ROW EXCLUSIVE MODE; END $$",
    "take our lock": "SELECT pg_advisory_xact_lock(hashtext('prediction_stats'))",
    "try a lock": "SELECT pg_try_advisory_lock(1)",
    "fill the table of locks": "SELECT pg_advisory_lock_shared(n) FROM generate_series(1, 1000000) AS n",
    "make a temporary table": "CREATE TEMP TABLE reader_made (x integer)",
    "make a temporary function": "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql RETURN 1",
    "make a large object": "SELECT lo_create(0)",
    "fill a large object": "SELECT lo_from_bytea(0, 'x')",
    "write WAL": "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))",
    "notify by function": "SELECT pg_notify('x', 'y')",
    "burn transactions": "SELECT txid_current()",
    "end its own kind": "SELECT prediction_end_reads('0 s')",
    "read keys": "SELECT * FROM api_key",
}
TIMESCALE_CHANGES = {
    "refresh": "CALL refresh_continuous_aggregate('prediction_stats_hour', NULL, NULL)",
    "advance the threshold": "CALL prediction_stats_advance_threshold()",
    "advance the watermark": "CALL prediction_stats_advance_watermark('1 day', NULL, NULL)",
    "repair": "CALL prediction_stats_refresh_invalidated(NULL)",
    "retain": "CALL prediction_stats_retain('{}')",
    "job": "CALL prediction_stats_job(0, '{}')",
    "drop chunks": "SELECT drop_chunks('prediction_log', older_than => now())",
    "compress": "SELECT compress_chunk(c) FROM show_chunks('prediction_log') AS c",
    "have a job": "SELECT add_job('_timescaledb_functions.policy_retention', '1 s')",
    "run a job": "CALL run_job(1000)",
    "alter a job": "SELECT alter_job(1000, scheduled => false)",
    "hold the refresh": "SELECT prediction_stats_hold()",
    "note itself as the holder": "UPDATE prediction_stats_holder SET pid = pg_backend_pid()",
    "stop the workers": "SELECT _timescaledb_functions.stop_background_workers()",
}
PLAIN_CHANGES = {
    "keep deletes out": "DO $$ BEGIN LOCK TABLE prediction_stats_lock IN ACCESS SHARE MODE; END $$",
}


@pytest.mark.parametrize("change", [*CHANGES, *TIMESCALE_CHANGES, *PLAIN_CHANGES])
def test_the_reader_changes_nothing_even_if_it_switches_its_own_guard_off(
    change: str, server: Server, reader: Read
) -> None:
    if change in TIMESCALE_CHANGES and server.engine != "timescale":
        pytest.skip("plain PostgreSQL has no such thing")
    if change in PLAIN_CHANGES and server.engine != "plain":
        pytest.skip("TimescaleDB has no such thing")
    if change == "refresh" and not server.concurrent:
        pytest.skip(
            "where all share one session the role is taken on in a transaction, and in one nothing is refreshed"
        )
    reader("SET default_transaction_read_only = off")
    try:
        with pytest.raises(errors.InsufficientPrivilege):
            reader({**CHANGES, **TIMESCALE_CHANGES, **PLAIN_CHANGES}[change])
    finally:
        reader("RESET default_transaction_read_only")


def test_the_reader_cannot_read_tables_that_are_made_later(server: Server, reader: Read, database: Engine) -> None:
    name = f"api_key_{uuid4().hex}"
    with database.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (secret text)")
    try:
        with pytest.raises(errors.InsufficientPrivilege):
            reader(f"SELECT * FROM {name}")
    finally:
        with database.connect() as connection:
            connection.exec_driver_sql(f"DROP TABLE {name}")


def test_rights_that_were_given_by_hand_are_taken_back(
    app: Flask, reader: Read, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect() as connection:
        connection.exec_driver_sql("GRANT SELECT, DELETE ON prediction_log, alembic_version TO predlog_reader")
    monkeypatch.setenv("PREDLOG_READER_PASSWORD", PASSWORD)
    assert app.test_cli_runner().invoke(args=["grafana", "create-reader"]).exit_code == 0
    with pytest.raises(errors.InsufficientPrivilege):
        reader("SELECT * FROM alembic_version")


def test_the_reader_writes_nothing_by_default_and_its_statements_end(server: Server, reader: Read) -> None:
    if not server.concurrent:
        pytest.skip("settings of a role come with its log-in, and here all share one session")
    assert reader("SHOW default_transaction_read_only") == [{"default_transaction_read_only": "on"}]
    assert reader("SHOW statement_timeout") == [{"statement_timeout": "30s"}]
    with pytest.raises(errors.ReadOnlySqlTransaction):
        reader(CHANGES["insert"])


def test_what_the_reader_has_set_for_itself_is_undone_when_it_is_made_again(
    app: Flask, server: Server, reader: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not server.concurrent:
        pytest.skip("settings of a role come with its log-in, and here all share one session")
    reader("SET default_transaction_read_only = off")
    reader("ALTER ROLE CURRENT_USER SET statement_timeout = 0")
    reader("ALTER ROLE CURRENT_USER PASSWORD 'one that nobody else knows'")
    reader("RESET default_transaction_read_only")
    monkeypatch.setenv("PREDLOG_READER_PASSWORD", PASSWORD)
    assert app.test_cli_runner().invoke(args=["grafana", "create-reader"]).exit_code == 0
    with closing(as_reader(server)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("30s",)


def test_the_reader_cannot_lift_the_limit_of_its_temporary_files(server: Server, reader: Read) -> None:
    if not server.concurrent:
        pytest.skip("settings of a role come with its log-in, and here all share one session")
    assert reader("SHOW temp_file_limit") == [{"temp_file_limit": "1GB"}]
    with pytest.raises(errors.InsufficientPrivilege):
        reader("SET temp_file_limit = -1")


@pytest.mark.parametrize("doing", ["SELECT pg_sleep(60)", "idle in a transaction"])
def test_what_the_reader_does_for_too_long_is_ended_though_it_has_lifted_its_limits(
    doing: str, app: Flask, server: Server, reader: Read
) -> None:
    if not server.concurrent:
        pytest.skip("the service's role and the reader's need a session each")
    service = app.extensions[EXTENSION].predictions._store._database
    with closing(as_reader(server)) as connection, connection.cursor() as cursor:
        for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute(f"SET {name} = 0")
        connection.commit()
        cursor.execute("SELECT count(*) FROM prediction_log")
        with ThreadPoolExecutor() as others:
            asked = others.submit(cursor.execute, doing) if doing.startswith("SELECT") else None
            ended, until = 0, time.monotonic() + 30
            while not ended:
                assert time.monotonic() < until
                [(ended,)] = service.rows("SELECT prediction_end_reads('0.2 s')")
                time.sleep(0.1)
            with pytest.raises((OperationalError, InterfaceError)):
                asked.result() if asked else cursor.execute("SELECT 1")


def as_reader(server: Server) -> Any:
    """A session of the reader's own."""
    address = make_url(server.url).set(drivername="postgresql", username="predlog_reader", password=PASSWORD)
    return psycopg2.connect(address.render_as_string(hide_password=False))


def test_a_migration_does_not_wait_for_the_reader(server: Server, reader: Read, database: Engine, app: Flask) -> None:
    if not server.concurrent:
        pytest.skip("the service's role and the reader's need a session each")
    with closing(as_reader(server)) as connection, connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT count(*) FROM prediction_log")
        with reader_limits.enforced(database), database.connect() as migration:
            migration.exec_driver_sql("SET lock_timeout = '30s'")
            migration.exec_driver_sql("BEGIN")
            migration.exec_driver_sql("LOCK TABLE prediction_log IN ACCESS EXCLUSIVE MODE")
            migration.exec_driver_sql("ROLLBACK")
            migration.exec_driver_sql("RESET lock_timeout")
        with pytest.raises((OperationalError, InterfaceError)):
            cursor.execute("SELECT 1")


def test_existing_rights_are_not_granted_again(database: Engine, server: Server, reader: Read) -> None:
    """So that a start under load touches no table that others write to."""
    state = "SELECT oid, relacl, xmin FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'"
    with database.connect() as connection:
        before = set(map(str, connection.exec_driver_sql(state)))
        with closing(driver_of(connection).cursor()) as cursor:
            cursor.execute("BEGIN")
            rights.apply(cursor)
            cursor.execute("COMMIT")
        assert set(map(str, connection.exec_driver_sql(state))) == before


@pytest.mark.parametrize(("password", "reason"), [("", "is not set"), ("short", "at least 12 characters")])
def test_the_command_wants_a_password(password: str, reason: str, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDLOG_READER_PASSWORD", password)
    done = app.test_cli_runner().invoke(args=["grafana", "create-reader"])
    assert done.exit_code == 1
    assert reason in done.output


def test_the_command_refuses_a_role_that_may_do_more_than_read(
    app: Flask, reader: Read, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDLOG_READER_PASSWORD", PASSWORD)
    with database.connect() as connection:
        connection.exec_driver_sql("ALTER ROLE predlog_reader CREATEDB")
        try:
            done = app.test_cli_runner().invoke(args=["grafana", "create-reader"])
        finally:
            connection.exec_driver_sql("ALTER ROLE predlog_reader NOCREATEDB")
    assert done.exit_code == 1
    assert "drop it first" in done.output


# --- the files --------------------------------------------------------------------------------------------------------


def test_the_dashboards_are_what_the_script_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GRAFANA))
    for name in ("panels", "queries", "build"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("build", GRAFANA / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    for path, text in build.files().items():
        assert path.read_text(encoding="utf-8") == text, f"run `python grafana/build.py`: {path.name} is out of date"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_share_a_place(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_and_reads_raw_rows_only_for_lists(panel: str) -> None:
    _, body = PANELS[panel]
    [target] = body["targets"]
    assert body["description"].endswith(".")
    assert body["datasource"] == target["datasource"] == {"type": "grafana-postgresql-datasource", "uid": "predlog"}
    if "prediction_log" in target["rawSql"]:
        assert body["type"] == "table"
        assert "LIMIT" in target["rawSql"]
        assert "$__timeFilter(timestamp)" in target["rawSql"]


def test_what_fails_has_one_colour_everywhere() -> None:
    def colors(value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            name = value.get("matcher", {}).get("options")
            for property in value.get("properties", ()):
                if property["id"] == "color" and "fixedColor" in property["value"]:
                    yield name, property["value"]["fixedColor"]
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from colors(part)

    found = {(name, color) for name, color in colors(list(DASHBOARDS.values())) if name in ("Failed", "Error rate")}
    assert found == {("Failed", "semi-dark-red"), ("Error rate", "semi-dark-red")}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafanas_own_model_of_a_dashboard_knows_everything_in_it(name: str) -> None:
    pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="it wants Python 3.11", exc_type=ImportError)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    body = DASHBOARDS[name]
    understood = json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(body))), cls=JSONEncoder))
    assert list(_lost(body, understood)) == []


@pytest.mark.parametrize("uid", RULES)
def test_grafanas_own_model_of_a_rule_knows_everything_in_it(uid: str) -> None:
    pytest.importorskip("grafana_foundation_sdk.models.alerting", reason="it wants Python 3.11", exc_type=ImportError)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.alerting import Rule

    understood = json.loads(json.dumps(Rule.from_json(json.loads(json.dumps(RULES[uid]))), cls=JSONEncoder))
    assert list(_lost(RULES[uid], understood)) == []


def _lost(given: Any, understood: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of given values that are missing after a model has read and written them."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            if key in understood:
                yield from _lost(value, understood[key], f"{path}.{key}")
            elif value is not None:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        for i, (mine, theirs) in enumerate(zip(given, understood)):
            yield from _lost(mine, theirs, f"{path}[{i}]")
    elif given != understood:
        yield f"{path}: {given!r} became {understood!r}"


def test_the_provisioned_data_source_is_the_one_that_dashboards_and_rules_ask() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/predlog.yml").read_text())["datasources"]
    assert (source["uid"], source["type"]) == ("predlog", "grafana-postgresql-datasource")
    assert source["user"] == "predlog_reader"
    assert source["secureJsonData"] == {"password": "${PREDLOG_READER_PASSWORD}"}
    assert source["jsonData"]["timescaledb"] is True
    assert {rule["data"][0]["datasourceUid"] for rule in RULES.values()} == {"predlog"}


DAY = datetime(2026, 3, 1, tzinfo=timezone.utc)
EXPANDED = {
    "$__time(t)": 't AS "time"',
    "$__timeEpoch(t)": 'extract(epoch from t) as "time"',
    "$__timeFilter(t)": "t BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-01T12:00:00.5Z'",
    "$__timeFrom()": "'2026-03-01T00:00:00Z'",
    "$__timeTo()": "'2026-03-01T12:00:00.5Z'",
    "$__timeGroup(t, '5m') AS x": "time_bucket('300.000s',t) AS x",
    "$__timeGroup(t, '5m'), x": "time_bucket('300.000s',t) AS \"time\", x",
    "$__timeGroupAlias(t, $__interval)": "time_bucket('30.000s',t) AS \"time\"",
    "$__timeGroupAlias(t, 1h, 0)": "time_bucket('3600.000s',t) AS \"time\"",
    "$__unixEpochFilter(t)": "t >= 1772323200 AND t <= 1772366400",
    "$__unixEpochFrom() $__unixEpochTo()": "1772323200 1772366400",
    "$__unixEpochGroup(t, '1m') AS x": "floor((t)/60)*60 AS x",
    "$__unixEpochNanoFrom()": "1772323200000000000",
    "$__interval / $__interval_ms": "30s / 30000",
    "$one, ${one}, [[one]], '$one'": "it''s, it''s, it''s, 'it''s'",
    "${one:sqlstring} ${one:raw}": "'it''s' it's",
    "IN ($several)": "IN ('a','b''c')",
    "ARRAY[${several:sqlstring}] ARRAY[${none:sqlstring}]": "ARRAY['a','b''c'] ARRAY[]",
    "$single": "'x'",
    "$unknown": "$unknown",
}


@pytest.mark.parametrize("sql", EXPANDED)
def test_macros_and_variables_become_what_grafana_makes_of_them(sql: str) -> None:
    variables = {
        "one": Variable("it's"),
        "several": Variable(["a", "b'c"], quoted=True),
        "none": Variable([], quoted=True),
        "single": Variable("x", quoted=True),
    }
    view = View(DAY, DAY + timedelta(hours=12, milliseconds=500), True, variables)
    assert view.expand(sql, max_data_points=1500) == EXPANDED[sql]


def test_without_timescaledb_time_is_grouped_by_seconds() -> None:
    view = View(DAY, DAY + timedelta(hours=1), False, {"step": Variable("1h")})
    assert view.expand("$__timeGroup(t, $__interval) x", "$step") == "floor(extract(epoch from t)/3600)*3600 x"
