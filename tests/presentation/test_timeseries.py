"""GET /api/v1/stats/timeseries"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import create_engine

from app.domain.instants import DAY, HOUR, MINUTE
from conftest import Server, make_app
from support.scratch import empty_database

URL = "/api/v1/stats/timeseries"
Log = Callable[..., dict[str, Any]]
Insert = Callable[[list[datetime]], None]
Refresh = Callable[[], None]


def ask(client: FlaskClient, **query: Any) -> dict[str, Any]:
    response = client.get(URL, query_string=query)
    assert response.status_code == 200, response.text
    return dict(response.json)


def counts(answer: dict[str, Any]) -> list[int]:
    return [point["total_requests"] for point in answer["points"]]


def test_points_lie_end_to_end_and_have_zeros_without_predictions(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, refresh: Refresh
) -> None:
    insert([midnight, midnight + HOUR, midnight + 61 * MINUTE, midnight + 5.1 * HOUR])
    for _ in range(2):
        answer = ask(
            client, **{"model_name": model, "from": f"{midnight:%FT%T}", "to": f"{midnight:%FT06:00}", "bucket": "1h"}
        )
        assert counts(answer) == [1, 2, 0, 0, 0, 1]
        edges = [(point["from"], point["to"]) for point in answer["points"]]
        assert edges == [((midnight + n * HOUR).isoformat(), (midnight + (n + 1) * HOUR).isoformat()) for n in range(6)]
        empty, full = answer["points"][2], answer["points"][1]
        assert (empty["success_rate"], empty["average_duration_ms"], empty["percentiles"]["50"]) == (None, None, None)
        assert (full["average_duration_ms"], full["min_duration_ms"], full["max_duration_ms"]) == (2.5, 2, 3)
        refresh()


def test_each_prediction_is_in_exactly_one_point_whatever_the_bucket(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, refresh: Refresh
) -> None:
    insert([midnight + n * 7 * MINUTE for n in range(200)])
    start, end = midnight + timedelta(seconds=90), midnight + timedelta(hours=20, seconds=30.5)
    query = {"model_name": model, "from": start.isoformat(), "to": end.isoformat()}
    expected = client.get("/api/v1/stats", query_string=query).json
    for bucket in ("1m", "5m", "15m", "1h", "6h", "1d", "auto"):
        for zone in ("UTC", "Asia/Kathmandu"):
            answer = ask(client, **query, bucket=bucket, timezone=zone)
            assert sum(counts(answer)) == expected["total_requests"] == 171, (bucket, zone)
            points = answer["points"]
            assert (points[0]["from"], points[-1]["to"]) == (start.isoformat(), end.isoformat())
            assert all(a["to"] == b["from"] for a, b in pairwise(points))
        refresh()


def test_days_are_those_of_the_time_zone(client: FlaskClient, insert: Insert, model: str, midnight: datetime) -> None:
    insert([midnight - 6 * HOUR, midnight - 5 * HOUR, midnight + 18 * HOUR, midnight + 19 * HOUR])
    day = midnight.date().isoformat()
    answer = ask(client, **{"model_name": model, "from": day, "to": day, "bucket": "1d", "timezone": "Asia/Kolkata"})
    assert answer["timezone"] == "Asia/Kolkata"
    assert [point["from"] for point in answer["points"]] == [(midnight - 5.5 * HOUR).isoformat()]
    assert counts(answer) == [2]


def test_a_day_of_25_hours_is_one_point(client: FlaskClient, model: str) -> None:
    query = {"model_name": model, "from": "2025-10-26", "to": "2025-10-26", "timezone": "Europe/Berlin"}
    (point,) = ask(client, **query, bucket="1d")["points"]
    assert (point["from"], point["to"]) == ("2025-10-25T22:00:00+00:00", "2025-10-26T23:00:00+00:00")
    assert len(ask(client, **query, bucket="1h")["points"]) == 25


def test_without_bounds_it_is_the_last_day_in_about_sixty_points(client: FlaskClient, log: Log, model: str) -> None:
    log()
    answer = ask(client, model_name=model)
    assert (answer["bucket"], sum(counts(answer))) == ("15m", 1)
    assert 90 <= len(answer["points"]) <= 98
    start, end = (datetime.fromisoformat(answer["range"][name]) for name in ("from", "to"))
    assert end - start == DAY
    assert start < datetime.now(timezone.utc) - 23 * HOUR


def test_an_empty_range_has_no_points(client: FlaskClient, model: str) -> None:
    answer = ask(client, **{"model_name": model, "from": "2025-06-01T12:00Z", "to": "2025-06-01T12:00Z"})
    assert answer["points"] == []


def test_more_than_2000_points_are_refused(client: FlaskClient) -> None:
    refusal = client.get(URL, query_string={"from": "2025-01-01", "to": "2025-03-01", "bucket": "1m"})
    assert refusal.status_code == 422
    assert "2000" in refusal.json["errors"]["query"]["bucket"][0]


def test_2000_points_of_a_minute_are_answered(client: FlaskClient, model: str, midnight: datetime) -> None:
    end = midnight + 2000 * MINUTE
    answer = ask(client, **{"model_name": model, "from": midnight.isoformat(), "to": end.isoformat(), "bucket": "1m"})
    assert len(answer["points"]) == 2000


@pytest.fixture
def hours_left(server: Server) -> Iterator[tuple[FlaskClient, datetime]]:
    """A log whose rows and minutes of a day are gone, and the day. It had two predictions after ten o'clock."""
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    with ExitStack() as stack:
        url = stack.enter_context(empty_database(server))
        app = make_app(url, pool_size=2 if server.concurrent else 1)
        with app.app_context():
            upgrade()
        database = create_engine(url, isolation_level="AUTOCOMMIT")
        stack.callback(database.dispose)
        client = app.test_client()
        for minute in (10, 40):
            body = {"model_name": "m", "duration_ms": 1, "was_successful": True}
            timestamp = (today - 5 * DAY + 10 * HOUR + minute * MINUTE).isoformat()
            assert client.post("/api/v1/predict-log", json={**body, "timestamp": timestamp}).status_code == 200
        _drop_rows_and_minutes_before(today - 3 * DAY, database, server)
        yield client, today - 5 * DAY


def test_if_rows_are_gone_the_points_still_add_up_to_the_answer_of_stats(
    hours_left: tuple[FlaskClient, datetime],
) -> None:
    client, midnight = hours_left
    asked = {"from": (midnight + 10.5 * HOUR).isoformat(), "to": (midnight + 12 * HOUR).isoformat()}
    total = client.get("/api/v1/stats", query_string=asked).json["total_requests"]
    assert total == 2, "the whole hour is counted, for nothing finer is left"
    for bucket in ("1h", "6h", "15m"):
        response = client.get(URL, query_string={**asked, "bucket": bucket})
        # The service may refuse points that are finer than the kept aggregates, but must not answer zero.
        assert response.status_code == 422 or sum(counts(response.json)) == 2, bucket
    day = {"from": midnight.isoformat(), "to": (midnight + DAY).isoformat(), "bucket": "auto"}
    for path in (URL, "/api/v1/stats/histogram", "/api/v1/stats/models"):
        answer = client.get(path, query_string=day).json
        assert (answer["bucket"], total_of(answer)) == ("1h", 2), "for points of 15 minutes too little is left"
    refused = client.get(URL, query_string={**day, "timezone": "Asia/Kolkata"})
    assert refused.status_code == 422
    assert "`timezone=UTC`" in refused.json["errors"]["query"]["bucket"][0], "its hours begin within those of UTC"


def test_if_rows_are_gone_an_empty_range_still_has_no_predictions(hours_left: tuple[FlaskClient, datetime]) -> None:
    client, midnight = hours_left
    instant = (midnight + 10.5 * HOUR).isoformat()
    empty = {"from": instant, "to": instant}
    for path in ("/api/v1/stats", "/api/v1/stats/histogram"):
        answer = client.get(path, query_string=empty).json
        assert (answer["range"], answer["total_requests"], answer["cut_to_request"]) == (empty, 0, True), path
    for path in (URL, "/api/v1/stats/models"):
        answer = client.get(path, query_string={**empty, "bucket": "1h"}).json
        assert (answer["range"], total_of(answer), answer["cut_to_request"]) == (empty, 0, True), path


def total_of(answer: Any) -> int:
    """How many predictions an answer is about, by points or by models."""
    return sum(entry["total_requests"] for entry in answer["points" if "points" in answer else "models"])


MATERIALIZED = """
SELECT watermark >= %s AND NOT EXISTS (SELECT FROM prediction_invalid_hour) FROM prediction_stats_state
"""


def _drop_rows_and_minutes_before(edge: datetime, database: Any, server: Server) -> None:
    """What retention leaves behind."""
    with database.connect() as connection:
        if server.engine == "timescale":
            # TimescaleDB's own job may be at it: then a call returns at once. If its first run was before the
            # predictions, they are behind the watermark, and invalid until a later run.
            while not connection.exec_driver_sql(MATERIALIZED, (edge,)).scalar():
                connection.exec_driver_sql("CALL prediction_stats_job(0, '{}')")
                time.sleep(0.05)
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SET LOCAL citus.propagate_set_commands = 'local'")  # means nothing elsewhere
            connection.exec_driver_sql("SET LOCAL predlog.retention = 'on'")
            connection.exec_driver_sql("DELETE FROM prediction_log WHERE timestamp < %s", (edge,))
            connection.exec_driver_sql("COMMIT")
        for family in ("stats", "latency"):
            if server.engine != "timescale":
                connection.exec_driver_sql(f"DELETE FROM prediction_{family}_minute WHERE bucket < %s", (edge,))
        connection.exec_driver_sql(
            "UPDATE prediction_stats_state SET raw_from = %s, minute_from = %s, generation = generation + 1",
            (edge, edge),
        )
