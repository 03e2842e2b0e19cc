"""What all questions about many predictions have in common: versions, dates in a time zone, common slips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

LIST = "/api/v1/predictions"
STATS = "/api/v1/stats"
SERIES = "/api/v1/stats/timeseries"
COMPARE = "/api/v1/stats/compare"
Log = Callable[..., dict[str, Any]]
DAY = {"from": "2025-06-09", "to": "2025-06-09"}


def ask(client: FlaskClient, path: str, **query: str) -> Any:
    response = client.get(path, query_string=query)
    assert response.status_code == 200, response.text
    return response.json


@pytest.fixture
def versions(log: Log, model: str) -> dict[str, str]:
    """Three predictions without a version and one of version 1; the question about that day."""
    for version in (None, None, None, "1"):
        log(timestamp="2025-06-09T12:00:00Z", **({"model_version": version} if version else {}))
    return {"model_name": model, **DAY}


def test_an_empty_version_stands_for_predictions_without_one(client: FlaskClient, versions: dict[str, str]) -> None:
    assert len(ask(client, LIST, **versions, model_version="")) == 3
    assert ask(client, STATS, **versions, model_version="")["total_requests"] == 3
    points = ask(client, SERIES, **versions, model_version="", bucket="1d")["points"]
    assert [point["total_requests"] for point in points] == [3]
    assert ask(client, STATS, **versions)["total_requests"] == 4


@pytest.mark.parametrize(("a", "b", "counted"), [("", "1", (3, 1)), ("1", "", (1, 3))])
def test_predictions_without_a_version_can_be_compared_with_a_version(
    client: FlaskClient, versions: dict[str, str], a: str, b: str, counted: tuple[int, int]
) -> None:
    answer = ask(client, COMPARE, **versions, version_a=a, version_b=b)
    assert (answer["a"]["total_requests"], answer["b"]["total_requests"]) == counted
    assert (answer["a"]["model_version"], answer["b"]["model_version"]) == (a, b)


def test_two_ranges_of_predictions_without_a_version_can_be_compared(
    client: FlaskClient, versions: dict[str, str]
) -> None:
    ranges = {"from_a": "2025-06-09", "to_a": "2025-06-09", "from_b": "2025-06-10", "to_b": "2025-06-10"}
    answer = ask(client, COMPARE, model_name=versions["model_name"], model_version="", **ranges)
    assert (answer["a"]["total_requests"], answer["b"]["total_requests"]) == (3, 0)


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", [1, 23]), ("Europe/Berlin", [1]), ("Asia/Tokyo", [1]), ("America/New_York", [23])]
)
def test_the_dates_of_a_list_are_days_of_the_time_zone(
    client: FlaskClient, log: Log, model: str, zone: str, hours: list[int]
) -> None:
    for hour in (1, 23):
        log(timestamp=f"2025-06-09T{hour:02}:00:00Z", duration_ms=hour)
    found = ask(client, LIST, model_name=model, timezone=zone, **DAY)
    assert sorted(record["duration_ms"] for record in found) == hours


def test_the_next_page_keeps_the_time_zone(client: FlaskClient, log: Log, model: str) -> None:
    for hour in (1, 2):
        log(timestamp=f"2025-06-09T{hour:02}:00:00Z")
    response = client.get(LIST, query_string={"model_name": model, "timezone": "Europe/Berlin", "limit": 1, **DAY})
    assert "timezone=Europe%2FBerlin" in response.headers["Link"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"])
def test_the_whole_calendar_can_be_asked_for(client: FlaskClient, log: Log, model: str, zone: str) -> None:
    log()
    whole = {"model_name": model, "timezone": zone, "from": "0001-01-01", "to": "9999-12-31"}
    assert len(ask(client, LIST, **whole)) == 1
    assert ask(client, STATS, **whole)["total_requests"] == 1
    by_other_names = {"from_date": whole["from"], "to_date": whole["to"]}
    assert ask(client, STATS, model_name=model, timezone=zone, **by_other_names)["total_requests"] == 1
    assert ask(client, SERIES, model_name=model, timezone=zone, to="9999-12-31", bucket="1h")["points"]
    sides = {"from_a": "0001-01-01", "to_a": "2000-12-31", "from_b": "2001-01-01", "to_b": "9999-12-31"}
    assert ask(client, COMPARE, model_name=model, timezone=zone, **sides)["b"]["total_requests"] == 1


@pytest.mark.parametrize("path", [LIST, STATS, SERIES])
def test_the_plus_of_an_offset_need_not_be_encoded(client: FlaskClient, log: Log, model: str, path: str) -> None:
    log(timestamp="2025-06-09T10:30:00Z")
    bounds = "from=2025-06-09T12:00:00+02:00&to=2025-06-09T13:00:00+02:00"
    raw, encoded = (client.get(f"{path}?model_name={model}&{query}") for query in (bounds, bounds.replace("+", "%2B")))
    assert raw.status_code == encoded.status_code == 200, raw.text
    assert without_freshness(raw.json) == without_freshness(encoded.json) != []


def without_freshness(answer: Any) -> Any:
    """What does not depend on how far the aggregates are."""
    return {key: value for key, value in answer.items() if key != "freshness"} if isinstance(answer, dict) else answer


@pytest.mark.parametrize("path", [LIST, STATS, SERIES])
@pytest.mark.parametrize(
    ("text", "hint"), [("2025-06-09T12:00:00%252B02:00", "encoded twice"), ("1749470400", "seconds since 1970")]
)
def test_an_error_says_what_to_write_instead(client: FlaskClient, path: str, text: str, hint: str) -> None:
    response = client.get(f"{path}?from={text}")
    assert response.status_code == 422
    assert hint in response.json["errors"]["query"]["from"][0]


@pytest.mark.parametrize("duration", [0.1, 0.7, 1e-7, 1e100])
def test_predictions_that_took_the_same_time_have_it_for_their_average(
    client: FlaskClient, log: Log, model: str, refresh: Callable[[], None], duration: float
) -> None:
    for minute in range(10):
        log(timestamp=f"2025-06-09T12:{minute:02}:00Z", duration_ms=duration, model_version="1")
    for _ in range(2):  # from raw rows, then from aggregates
        question = {"model_name": model, **DAY}
        stats = ask(client, STATS, **question, group_by="model_version")
        point = ask(client, SERIES, **question, bucket="1d")["points"][0]
        side = ask(client, COMPARE, **question, version_a="1", version_b="2")["a"]
        for answer in (stats, stats["groups"][0], point, side):
            assert answer["average_duration_ms"] == answer["min_duration_ms"] == answer["max_duration_ms"] == duration
        refresh()
