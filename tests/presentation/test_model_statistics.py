"""GET /api/v1/stats/models"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest
from flask.testing import FlaskClient

from app.application.model_statistics import MAX_TALLIES
from app.domain.timeline import MAX_POINTS

URL = "/api/v1/stats/models"
FIGURES = ("total_requests", "failed_requests", "success_rate", "average_duration_ms", "percentiles", "completeness")


@pytest.fixture
def models(client: FlaskClient, model: str, midnight: datetime) -> list[str]:
    """Three models whose names begin with `model`, of two versions each; of the first, a third failed."""
    names = [f"{model}-{letter}" for letter in "abc"]
    records = [
        {
            "model_name": name,
            "model_version": str(number % 2),
            "duration_ms": (number + 1) * (place + 1),
            "was_successful": place > 0 or number % 3 > 0,
            "timestamp": (midnight + timedelta(minutes=37 * number)).isoformat(),
        }
        for place, name in enumerate(names)
        for number in range(60)
    ]
    assert client.post("/api/v1/predict-logs", json=records).json["stored"] == len(records)
    return names


def ask(client: FlaskClient, **query: Any) -> dict[str, Any]:
    response = client.get(URL, query_string=query)
    assert response.status_code == 200, response.text
    return dict(response.json)


def ranges(midnight: datetime) -> list[dict[str, str]]:
    later = midnight + timedelta(hours=5, minutes=13, seconds=7, milliseconds=11)
    return [
        {},
        {"from": midnight.date().isoformat(), "to": midnight.date().isoformat(), "timezone": "Asia/Kathmandu"},
        {"from": later.isoformat(), "to": (later + timedelta(hours=11)).isoformat()},
    ]


def test_each_model_has_the_figures_that_stats_gives_for_it(
    client: FlaskClient, model: str, models: list[str], midnight: datetime, refresh: Callable[[], None]
) -> None:
    steps: tuple[Callable[[], object], ...] = (lambda: None, refresh)
    for step in steps:
        step()
        for query in ranges(midnight):
            listed = ask(client, search=model, **query)["models"]
            assert [entry["model_name"] for entry in listed] == models
            for entry in listed:
                stats = client.get("/api/v1/stats", query_string={**query, "model_name": entry["model_name"]}).json
                assert {name: entry[name] for name in FIGURES} == {name: stats[name] for name in FIGURES}


def test_with_a_bucket_the_points_are_those_of_the_series(
    client: FlaskClient, model: str, models: list[str], midnight: datetime
) -> None:
    for query in ranges(midnight)[1:]:
        answer = ask(client, search=model, bucket="6h", **query)
        for entry in answer["models"]:
            asked = {**query, "model_name": entry["model_name"], "bucket": "6h"}
            points = client.get("/api/v1/stats/timeseries", query_string=asked).json["points"]
            assert entry["series"]["calls"] == [point["total_requests"] for point in points]
            assert entry["series"]["failed"] == [point["failed_requests"] for point in points]
            assert answer["edges"] == [*(point["from"] for point in points), points[-1]["to"]]
            total = client.get("/api/v1/stats", query_string={**query, "model_name": entry["model_name"]}).json
            assert entry["percentiles"] == total["percentiles"]


@pytest.mark.parametrize("bucket", ["auto", "1h"])
def test_with_a_bucket_and_without_a_beginning_the_range_is_that_of_the_series(
    client: FlaskClient, model: str, models: list[str], bucket: str
) -> None:
    answer = ask(client, search=model, bucket=bucket)
    series = client.get("/api/v1/stats/timeseries", query_string={"model_name": models[0], "bucket": bucket}).json
    assert len(answer["edges"]) == len(series["points"]) + 1 > 24
    ends = [datetime.fromisoformat(answer["range"][side]) for side in ("from", "to")]
    assert ends[1] - ends[0] == timedelta(days=1)
    assert answer["bucket"] == series["bucket"]


def test_the_pages_together_have_every_model_once(client: FlaskClient, model: str, models: list[str]) -> None:
    seen, url = [], f"{URL}?search={model}&limit=2"
    while url:
        response = client.get(url)
        seen += [entry["model_name"] for entry in response.json["models"]]
        link = response.headers.get("Link")
        url = urljoin(URL, link[1 : link.index(">")]) if link else ""
    assert seen == models


def test_a_page_with_many_points_has_fewer_models_and_a_link_to_the_others(
    client: FlaskClient, model: str, midnight: datetime
) -> None:
    names = [f"{model}-{number:02}" for number in range(15)]
    at = (midnight + timedelta(hours=1)).isoformat()
    client.post(
        "/api/v1/predict-logs",
        json=[{"model_name": name, "duration_ms": 1, "was_successful": True, "timestamp": at} for name in names],
    )
    query = {"search": model, "limit": 1000, "from": midnight.isoformat(), "bucket": "1m"}
    pages, url = [], f"{URL}?{urlencode({**query, 'to': (midnight + timedelta(minutes=MAX_POINTS)).isoformat()})}"
    while url:
        response = client.get(url)
        pages.append(response.json["models"])
        link = response.headers.get("Link")
        url = urljoin(URL, link[1 : link.index(">")]) if link else ""
    assert [len(page) for page in pages] == [MAX_TALLIES // MAX_POINTS, 15 - MAX_TALLIES // MAX_POINTS]
    assert [entry["model_name"] for page in pages for entry in page] == names
    assert {(len(entry["series"]["calls"]), sum(entry["series"]["calls"])) for entry in chain(*pages)} == {(2000, 1)}
    short = {**query, "to": (midnight + timedelta(hours=24)).isoformat(), "bucket": "1h"}
    assert len(ask(client, **short)["models"]) == 15


def test_a_model_without_predictions_in_the_range_has_zeros(client: FlaskClient, model: str, models: list[str]) -> None:
    [entry, *_] = ask(client, model_name=models[0], **{"from": "2001-01-01", "to": "2001-01-02"})["models"]
    assert (entry["total_requests"], entry["success_rate"], entry["percentiles"]["50"]) == (0, None, None)


def test_if_no_model_is_found_there_is_an_empty_list(client: FlaskClient, model: str, models: list[str]) -> None:
    answer = ask(client, search=f"no-{model}", bucket="1h", **{"from": "2001-01-01", "to": "2001-01-01"})
    assert answer["models"] == []
    assert len(answer["edges"]) == 25


def test_percentiles_may_be_left_out(client: FlaskClient, model: str, models: list[str]) -> None:
    assert ask(client, search=model, percentiles="")["models"][0]["percentiles"] == {}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"bucket": "2h"},
        {"cursor": "???"},
        {"cursor": "AAAA"},
        {"group_by": "model_name"},
    ],
)
def test_nonsense_gets_a_clear_error(client: FlaskClient, query: dict[str, Any]) -> None:
    response = client.get(URL, query_string=query)
    assert response.status_code == 422
    assert set(response.json["errors"]["query"]) == set(query)
