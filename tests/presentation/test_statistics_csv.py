"""Statistics and series as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

STATS, SERIES = "/api/v1/stats", "/api/v1/stats/timeseries"
DAY = {"from": "2025-06-09", "to": "2025-06-09"}
Log = Callable[..., dict[str, Any]]


@pytest.fixture
def predictions(log: Log) -> None:
    for number in range(3):
        log(
            timestamp=f"2025-06-09T0{number}:00:00Z",
            duration_ms=number + 0.1,
            model_version=["a,b", None, '"c"'][number],
        )


def lines(response: TestResponse) -> list[dict[str, str]]:
    assert (response.status_code, response.mimetype) == (200, "text/csv"), response.text
    assert response.text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(response.text, newline=""), strict=True))


def written(tally: dict[str, Any]) -> dict[str, str]:
    """A tally of the JSON answer, as CSV should have it."""
    return {name: "" if value is None else str(value) for name, value in flat(tally)}


def flat(value: Any, *names: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield ".".join(names), value
        return
    for name, part in value.items():
        yield from flat(part, *names, name)


COMMON = {"range", "cut_to_request", "percentile_relative_error", "freshness", "groups"}


@pytest.mark.usefixtures("predictions")
def test_a_total_is_one_line_of_the_figures_of_the_json_answer(client: FlaskClient, model: str) -> None:
    query = {"model_name": model, **DAY, "percentiles": "50,99.9", "under_ms": "1,2.5"}
    figures = client.get(STATS, query_string=query).json
    total = {name: value for name, value in figures.items() if name not in COMMON}
    assert lines(client.get(STATS, query_string=query, headers={"Accept": "text/csv"})) == [written(total)]


@pytest.mark.usefixtures("predictions")
def test_groups_are_a_line_each(client: FlaskClient, model: str) -> None:
    query = {"model_name": model, **DAY, "group_by": "model_name,model_version"}
    groups = client.get(STATS, query_string=query).json["groups"]
    assert len(groups) == 3
    assert lines(client.get(STATS, query_string={**query, "format": "csv"})) == list(map(written, groups))


@pytest.mark.usefixtures("predictions")
def test_points_are_a_line_each(client: FlaskClient, model: str) -> None:
    query = {"model_name": model, **DAY, "bucket": "6h"}
    points = client.get(SERIES, query_string=query).json["points"]
    assert lines(client.get(SERIES, query_string={**query, "format": "csv"})) == list(map(written, points))


@pytest.mark.usefixtures("predictions")
def test_points_with_and_without_predictions_have_the_same_columns(client: FlaskClient, model: str) -> None:
    query = {"model_name": model, "from": "2025-06-08", "to": "2025-06-09", "bucket": "1d", "under_ms": "1,2.5"}
    empty, full = lines(client.get(SERIES, query_string={**query, "format": "csv"}))
    assert full == written(client.get(SERIES, query_string=query).json["points"][1])
    assert (list(empty), empty["under_ms.1.share"]) == (list(full), "")


def test_no_group_leaves_the_names_of_the_columns(client: FlaskClient, log: Log, model: str) -> None:
    query = {"model_name": model, "format": "csv", "group_by": "model_name"}
    empty = client.get(STATS, query_string=query).text
    log()
    assert empty.splitlines() == client.get(STATS, query_string=query).text.splitlines()[:1]


@pytest.mark.parametrize("measures", [{}, {"percentiles": "50", "under_ms": "1,2.5"}], ids=["defaults", "chosen"])
def test_no_point_leaves_the_names_of_the_columns(client: FlaskClient, model: str, measures: dict[str, str]) -> None:
    instant = "2025-06-09T12:00:00Z"
    query = {"model_name": model, "format": "csv", **measures}
    empty = client.get(SERIES, query_string={**query, "from": instant, "to": instant}).text
    assert empty.splitlines() == client.get(SERIES, query_string={**query, **DAY}).text.splitlines()[:1]


@pytest.mark.parametrize("path", [STATS, SERIES])
def test_json_stays_the_default_format(client: FlaskClient, model: str, path: str) -> None:
    for accept in ("*/*", "application/json", "text/html, */*;q=0.8", ""):
        response = client.get(path, query_string={"model_name": model}, headers={"Accept": accept})
        assert response.mimetype == "application/json"
    assert client.get(path, headers={"Accept": "image/png"}).status_code == 406
