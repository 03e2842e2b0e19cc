"""GET /api/v1/stats/histogram, and `under_ms` of /stats and /stats/timeseries"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.domain.instants import DAY, HOUR, MINUTE

URL = "/api/v1/stats/histogram"
LIMITS = (0, 0.5, 1, 20, 99.9, 200, 1e9)
Log = Callable[..., dict[str, Any]]
Refresh = Callable[[], None]
INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT timestamp, %(model)s, duration, true FROM unnest(%(times)s::timestamptz[], %(durations)s::float8[])
    AS rows (timestamp, duration)
"""
SCAN = """
SELECT duration_ms FROM prediction_log WHERE model_name = %s AND timestamp >= %s AND timestamp < %s
"""


def ask(client: FlaskClient, path: str = URL, **query: Any) -> dict[str, Any]:
    response = client.get(path, query_string=query)
    assert response.status_code == 200, response.text
    return dict(response.json)


@pytest.fixture
def scattered(database: Engine, model: str, midnight: datetime) -> None:
    """400 predictions over two days; some take no time, some lie on the bound of a bin, a few take very long."""
    chance = random.Random(7)
    kinds = (lambda: 0.0, lambda: float(chance.randint(1, 50)), lambda: chance.lognormvariate(3, 1.5), lambda: 1e7)
    durations = [kinds[min(chance.randrange(12) // 2, 3)]() for _ in range(400)]
    times = [midnight + timedelta(minutes=chance.uniform(0, 48 * 60)) for _ in range(400)]
    with database.connect() as connection:
        connection.exec_driver_sql(INSERT, {"model": model, "times": times, "durations": durations})


@pytest.fixture
def ranges(midnight: datetime) -> list[tuple[datetime, datetime]]:
    """Cut to the microsecond, to whole hours, to whole days."""
    tick = timedelta(microseconds=1)
    return [
        (midnight + 100 * MINUTE + tick, midnight + 2900 * MINUTE - 7 * tick),
        (midnight + 3 * HOUR, midnight + 40 * HOUR),
        (midnight, midnight + 2 * DAY),
    ]


@pytest.fixture
def scan(database: Engine, model: str) -> Callable[[datetime, datetime], list[float]]:
    """The durations of the rows themselves."""

    def scan(start: datetime, end: datetime) -> list[float]:
        with database.connect() as connection:
            return [row[0] for row in connection.exec_driver_sql(SCAN, (model, start, end))]

    return scan


@pytest.mark.usefixtures("scattered")
def test_shares_agree_with_the_rows_within_their_limits(
    client: FlaskClient, model: str, ranges: Any, scan: Any, refresh: Refresh
) -> None:
    for _ in range(2):
        for start, end in ranges:
            query = {"model_name": model, "from": start.isoformat(), "to": end.isoformat()}
            limits = ",".join(map(str, LIMITS))
            shares = ask(client, "/api/v1/stats", **query, under_ms=limits, percentiles="")["under_ms"]
            durations = scan(start, end)
            assert [float(label) for label in shares] == list(LIMITS)
            for limit, share in zip(LIMITS, shares.values()):
                true = sum(duration <= limit for duration in durations) / len(durations)
                assert share["low"] <= true <= share["high"] and share["low"] <= share["share"] <= share["high"]
                assert share["high"] - share["low"] < 0.1
            assert shares["1000000000"] == {"share": 1, "low": 1, "high": 1}
            assert shares["0"]["low"] == shares["0"]["high"] > 0
        refresh()


@pytest.mark.usefixtures("scattered")
def test_the_counts_add_up_to_the_predictions_and_agree_with_the_rows(
    client: FlaskClient, model: str, ranges: Any, scan: Any, refresh: Refresh
) -> None:
    for _ in range(2):
        for start, end in ranges:
            for bins in (3, 10, 200):
                query = {"model_name": model, "from": start.isoformat(), "to": end.isoformat()}
                answer = ask(client, **query, bins=bins)
                durations = scan(start, end)
                assert len(answer["bins"]) <= bins
                assert sum(item["count"] for item in answer["bins"]) == answer["total_requests"] == len(durations)
                assert all(a["to_ms"] == b["from_ms"] for a, b in pairwise(answer["bins"][1:]))
                for item in answer["bins"]:
                    inside = [d for d in durations if item["from_ms"] < d <= item["to_ms"] or d == item["to_ms"] == 0]
                    assert len(inside) == pytest.approx(item["count"], abs=_on_a_bound(durations, item))
        refresh()


def _on_a_bound(durations: list[float], item: dict[str, float]) -> int:
    bounds = (item["from_ms"], item["to_ms"])
    return sum(any(abs(duration - bound) <= 1e-9 * bound for bound in bounds) for duration in durations if duration)


@pytest.mark.usefixtures("scattered")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_the_points_of_a_heat_map_add_up_to_the_histogram(
    client: FlaskClient, model: str, ranges: Any, refresh: Refresh, zone: str
) -> None:
    for _ in range(2):
        for (start, end), bucket in zip(ranges, ("15m", "6h", "auto")):
            query = {"model_name": model, "from": start.isoformat(), "to": end.isoformat(), "timezone": zone}
            answer = ask(client, **query, bucket=bucket, bins=30)
            series = ask(client, "/api/v1/stats/timeseries", **query, bucket=bucket)
            spans = [(point["from"], point["to"], point["total_requests"]) for point in answer["points"]]
            assert spans == [(point["from"], point["to"], point["total_requests"]) for point in series["points"]]
            assert (answer["bucket"], answer["timezone"]) == (series["bucket"], zone)
            assert all(sum(point["counts"]) == point["total_requests"] for point in answer["points"])
            columns = [sum(counts) for counts in zip(*(point["counts"] for point in answer["points"]))]
            assert columns == [item["count"] for item in answer["bins"]]
        refresh()


def test_a_histogram_without_a_bucket_has_no_points_and_one_of_nothing_no_bins(
    client: FlaskClient, log: Log, model: str
) -> None:
    assert ask(client, model_name=model)["bins"] == []
    log(duration_ms=5)
    answer = ask(client, model_name=model)
    assert "points" not in answer and "bucket" not in answer
    ((low, high, count),) = [(item["from_ms"], item["to_ms"], item["count"]) for item in answer["bins"]]
    assert low < 5 <= high < 5.2 and count == 1
    assert answer["freshness"].keys() and answer["completeness"] == 1


def test_shares_are_given_if_they_are_asked_for_in_groups_and_points_too(
    client: FlaskClient, log: Log, model: str
) -> None:
    at = datetime.now(timezone.utc).isoformat()  # both in one bucket
    log(duration_ms=5, model_version="1", timestamp=at)
    log(duration_ms=500, model_version="2", timestamp=at)
    answer = ask(client, "/api/v1/stats", model_name=model, under_ms="100", group_by="model_version", percentiles="")
    assert answer["under_ms"]["100"]["share"] == 0.5
    assert [group["under_ms"]["100"]["share"] for group in answer["groups"]] == [1, 0]
    points = ask(client, "/api/v1/stats/timeseries", model_name=model, under_ms="100,200")["points"]
    shares = [point["under_ms"]["200"] for point in points]
    assert [share["share"] for share in shares if share] == [0.5] and None in shares
    assert "under_ms" not in ask(client, "/api/v1/stats", model_name=model)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/v1/stats", {"under_ms": "-1"}),
        ("/api/v1/stats", {"under_ms": "nan"}),
        ("/api/v1/stats", {"under_ms": "1_0"}),
        ("/api/v1/stats", {"under_ms": ",".join(["1"] * 21)}),
        (URL, {"bins": "2"}),
        (URL, {"bins": "201"}),
        (URL, {"bins": "x"}),
        (URL, {"bucket": "2h"}),
        (URL, {"percentiles": "50"}),
        (URL, {"from": "2025-01-01", "to": "2025-03-01", "bucket": "1m"}),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(client: FlaskClient, path: str, query: dict[str, str]) -> None:
    refusal = client.get(path, query_string=query)
    assert refusal.status_code == 422
    assert set(refusal.json["errors"]["query"]) & set(query)
