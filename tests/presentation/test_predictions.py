"""GET /api/v1/predictions"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.infrastructure import prediction_list
from conftest import Server, make_app
from support.capture import statements

URL = "/api/v1/predictions"
Log = Callable[..., dict[str, Any]]
Insert = Callable[[list[datetime]], None]


def pages(client: FlaskClient, **query: Any) -> Iterator[list[dict[str, Any]]]:
    """Follow the Link headers to the end."""
    response = client.get(URL, query_string=query)
    while True:
        assert response.status_code == 200, response.text
        assert isinstance(response.json, list)
        yield response.json
        link = response.headers.get("Link")
        if link is None:
            return
        response = client.get(next_page(link))


def next_page(link: str) -> str:
    """Return the address that a Link header of the list leads to."""
    match = re.fullmatch(r'<(\?[^>]+)>; rel="next"', link)
    assert match, link
    return str(urljoin(URL, match[1]))


def order(record: dict[str, Any]) -> tuple[datetime, int]:
    return datetime.fromisoformat(record["timestamp"]), record["id"]


def test_a_bare_array_of_the_records_newest_first(
    client: FlaskClient, log: Log, model: str, midnight: datetime
) -> None:
    logged = [log(timestamp=(midnight + timedelta(hours=hour)).isoformat()) for hour in (3, 1, 2)]
    response = client.get(URL, query_string={"model_name": model})
    assert response.json == sorted(logged, key=order, reverse=True)
    assert "Link" not in response.headers


def test_a_model_that_nobody_has_logged_has_an_empty_list(client: FlaskClient, model: str) -> None:
    assert client.get(URL, query_string={"model_name": model}).json == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"a", "b", "c", "d"}),
        ({"model_version": "1"}, {"a", "b"}),
        ({"model_version": "2"}, {"c"}),
        ({"was_successful": "true"}, {"a", "c"}),
        ({"was_successful": "false"}, {"b", "d"}),
        ({"min_duration_ms": "20"}, {"b", "c", "d"}),
        ({"min_duration_ms": "20.000001"}, {"c", "d"}),
        ({"min_duration_ms": "0"}, {"a", "b", "c", "d"}),
        ({"model_version": "1", "was_successful": "false", "min_duration_ms": "15"}, {"b"}),
        ({"model_version": "2", "was_successful": "false"}, set()),
    ],
)
def test_filters_leave_what_passes_all_of_them(
    client: FlaskClient, log: Log, model: str, query: dict[str, str], expected: set[str]
) -> None:
    log(error="a", model_version="1", was_successful=True, duration_ms=10)
    log(error="b", model_version="1", was_successful=False, duration_ms=20)
    log(error="c", model_version="2", was_successful=True, duration_ms=30)
    log(error="d", was_successful=False, duration_ms=40)
    found = client.get(URL, query_string={"model_name": model, **query}).json
    assert {record["error"] for record in found} == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("{day}", "{day}", {0, 1, 2, 3}),
        ("{day}", "{next}", {0, 1, 2, 3, 4}),
        (None, "{day}", {0, 1, 2, 3}),
        ("{next}", None, {4}),
        ("{day}T06:00:00Z", "{day}T12:00:00Z", {1}),
        ("{day}T06:00:00.000001Z", "{day}T12:00:00.000001Z", {2}),
        ("{day}T08:00:00+02:00", "{day}T18:00:00+02:00", {1, 2}),
        ("{day}T06:00:00Z", "{day}T06:00:00Z", set()),
    ],
)
def test_dates_are_taken_whole_and_instants_half_open(
    client: FlaskClient,
    log: Log,
    model: str,
    midnight: datetime,
    start: str | None,
    end: str | None,
    expected: set[int],
) -> None:
    hours = [
        timedelta(),
        timedelta(hours=6),
        timedelta(hours=12),
        timedelta(days=1, microseconds=-1),
        timedelta(days=1),
    ]
    for number, hour in enumerate(hours):
        log(duration_ms=number, timestamp=(midnight + hour).isoformat())
    days = {"day": midnight.date(), "next": midnight.date() + timedelta(days=1)}
    bounds = {"from": start and start.format(**days), "to": end and end.format(**days)}
    found = client.get(URL, query_string={"model_name": model, **{k: v for k, v in bounds.items() if v}}).json
    assert {record["duration_ms"] for record in found} == expected


def test_a_page_has_a_hundred_records_unless_asked_otherwise(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime
) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(1001)])
    query = {"model_name": model}
    assert [len(page) for page in pages(client, **query)] == [100] * 10 + [1]
    assert [len(page) for page in pages(client, **query, limit=1000)] == [1000, 1]
    assert len(client.get(URL, query_string={**query, "limit": 7}).json) == 7


@pytest.mark.parametrize("limit", [1, 4, 7, 30])
def test_pages_lead_through_everything_once_also_if_many_happened_at_the_same_time(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, limit: int
) -> None:
    insert([midnight + timedelta(microseconds=n % 3) for n in range(21)])
    read = list(pages(client, model_name=model, limit=limit))
    records = [record for page in read for record in page]
    assert [len(page) for page in read[:-1]] == [limit] * (len(read) - 1)
    assert len(read[-1]) > 0, "the last page of several is not empty"
    assert [order(record) for record in records] == sorted(map(order, records), reverse=True)
    assert len({record["id"] for record in records}) == len(records) == 21


def test_the_next_page_keeps_the_filters(client: FlaskClient, log: Log, model: str, midnight: datetime) -> None:
    for n in range(6):
        log(was_successful=n % 2 == 0, model_version="é&=+ %", duration_ms=n)
    query = {"was_successful": "true", "model_version": "é&=+ %", "from": f"{midnight:%F}", "min_duration_ms": "1"}
    found = [record["duration_ms"] for page in pages(client, model_name=model, limit=1, **query) for record in page]
    assert found == [4, 2]


def test_predictions_logged_or_deleted_meanwhile_neither_repeat_nor_hide_others(
    client: FlaskClient, log: Log, insert: Insert, model: str, midnight: datetime
) -> None:
    insert([midnight + timedelta(hours=n) for n in range(9)])
    seen: list[int] = []
    for page in pages(client, model_name=model, limit=3):
        seen += [record["duration_ms"] for record in page]
        log(duration_ms=99)  # newer than all that were there
        client.delete(f"{URL}/{page[-1]['id']}")  # the record that the cursor was made of
    assert seen == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_pages_are_found_by_key_and_never_counted_or_skipped_over(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime
) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(50)])
    with statements() as sent:
        assert sum(map(len, pages(client, model_name=model, limit=10))) == 50
    assert len(sent) == 5, "one statement a page"
    for statement in sent:
        assert not re.search(r"\b(offset|count)\b", statement.text, re.IGNORECASE)
        assert re.search(r"\blimit 11\b", statement.text, re.IGNORECASE)


def test_a_late_page_is_found_in_an_index(client: FlaskClient, insert: Insert, model: str, midnight: datetime) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(50)])
    for query in ({"model_name": model}, {}):
        with statements() as sent:
            response = client.get(
                URL, query_string={**query, "limit": 10, "to": (midnight + timedelta(minutes=20)).isoformat()}
            )
            client.get(next_page(response.headers["Link"]))
        # The tables of a test are so small that reading all of them would be the best plan.
        scans = sent[-1].scans_of_the_log("enable_seqscan=off", "enable_bitmapscan=off")
        assert scans
        for scan in scans:
            assert "Index" in scan.kind or scan.kind == "Custom Scan", scan  # the latter of the columnstore
            assert '"timestamp" <' in scan.conditions.replace(f"{scan.relation}.", ""), scan


def test_a_cursor_may_be_used_again(client: FlaskClient, insert: Insert, model: str, midnight: datetime) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(5)])
    link = next_page(client.get(URL, query_string={"model_name": model, "limit": 2}).headers["Link"])
    assert client.get(link).json == client.get(link).json
    assert [record["duration_ms"] for record in client.get(link).json] == [3, 2]


def test_a_record_is_listed_as_it_is_shown_alone(client: FlaskClient, log: Log, model: str) -> None:
    stored = log(model_version="1", error="é", metadata={"a": [1.5]}, timestamp=datetime.now(timezone.utc).isoformat())
    assert client.get(URL, query_string={"model_name": model}).json == [stored]
    assert client.get(f"{URL}/{stored['id']}").json == stored


QUERIES: list[dict[str, str]] = [
    {},
    {"model_version": "1"},
    {"was_successful": "true"},
    {"was_successful": "false"},
    {"min_duration_ms": "7.5"},
    {"min_duration_ms": "1e9"},
    {"model_version": "1", "was_successful": "false", "min_duration_ms": "3"},
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pages_that_look_through_few_predictions_lead_to_the_same_ones_as_a_page_that_looks_through_all(
    client: FlaskClient, log: Log, model: str, midnight: datetime, monkeypatch: pytest.MonkeyPatch,
    query: dict[str, str], limit: int,
) -> None:  # fmt: skip
    for n in range(16):
        moment = midnight + timedelta(seconds=n // 2)  # two at a time
        log(duration_ms=n, was_successful=n % 5 != 0, model_version=str(n % 3), timestamp=moment.isoformat())
    everything = {"model_name": model, **query}
    expected = client.get(URL, query_string={**everything, "limit": 1000}).json
    for most in (1, 2, 4, 7, 16):
        monkeypatch.setattr(prediction_list, "MAX_SEARCHED", most)
        read = list(pages(client, **everything, limit=limit))
        assert [record for page in read for record in page] == expected
        assert max(map(len, read)) <= limit


def test_a_page_that_has_found_nothing_yet_leads_on(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(10)])
    monkeypatch.setattr(prediction_list, "MAX_SEARCHED", 4)
    response = client.get(URL, query_string={"model_name": model, "min_duration_ms": 1e9})
    assert response.json == []
    assert "Link" in response.headers


@pytest.mark.parametrize("query", [{"model_version": "none"}, {"min_duration_ms": "1e9"}, {"was_successful": "true"}])
def test_a_page_looks_through_so_many_predictions_at_most_whatever_it_finds(
    client: FlaskClient, database: Engine, insert: Insert, model: str, midnight: datetime,
    monkeypatch: pytest.MonkeyPatch, query: dict[str, str],
) -> None:  # fmt: skip
    """The plan says how many rows came out of the log."""
    insert([midnight + timedelta(seconds=n) for n in range(500)])
    monkeypatch.setattr(prediction_list, "MAX_SEARCHED", 20)
    with statements() as sent:
        client.get(URL, query_string={"model_name": model, **query})
    with database.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        connection.exec_driver_sql("SET enable_bitmapscan = off")
        connection.exec_driver_sql("SET enable_sort = off")
        plan = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {sent[-1].text}", sent[-1].parameters
        ).scalar_one()
        connection.invalidate()
    assert 0 < _rows_read(plan[0]["Plan"]) <= 21


def _rows_read(node: dict[str, Any]) -> float:
    if "Plans" not in node:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        return float((node["Actual Rows"] + removed) * node["Actual Loops"])
    return sum(map(_rows_read, node["Plans"]))


def test_failed_predictions_are_found_in_an_index_of_theirs(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime
) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(50)])
    with statements() as sent:
        found = client.get(URL, query_string={"model_name": model, "was_successful": "false"}).json
    assert [record["duration_ms"] for record in found] == [50, 40, 30, 20, 10]
    assert "row_number" not in sent[-1].text, "nothing is looked through in vain"


def test_a_page_has_so_many_bytes_at_most_and_leads_on(client: FlaskClient, model: str, midnight: datetime) -> None:
    large = {
        "model_name": model, "duration_ms": 1, "was_successful": True, "error": "\x01é" * 2048,
        "metadata": {"x": "x" * 4000},
    }  # fmt: skip
    records = [{**large, "timestamp": (midnight + timedelta(seconds=n)).isoformat()} for n in range(120)]
    assert client.post("/api/v1/predict-logs", json=records).json["stored"] == 120
    one = len(client.get(URL, query_string={"model_name": model, "limit": 1}).data)
    response = client.get(URL, query_string={"model_name": model, "limit": 1000})
    assert prediction_list.PAGE_BYTES * 0.9 < len(response.data) <= prediction_list.PAGE_BYTES + one
    read = [record["timestamp"] for page in pages(client, model_name=model, limit=1000) for record in page]
    assert read == [record["timestamp"] for record in reversed(records)]


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_pages_cut_by_bytes_lead_through_everything_once(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    insert([midnight + timedelta(minutes=n) for n in range(11)])
    for size in (1, 700, 1500, 100_000):
        monkeypatch.setattr(prediction_list, "PAGE_BYTES", size)
        read = list(pages(client, model_name=model, limit=limit))
        assert [record["duration_ms"] for page in read for record in page] == list(range(11, 0, -1))
        assert all(read), "no page of several is empty"


def test_a_list_that_takes_too_long_says_what_to_do(
    servers: Callable[[str], Server], server: Server, database: Engine, midnight: datetime
) -> None:
    if not server.concurrent:
        pytest.skip("one session at a time")
    impatient = make_app(server.url, list_timeout_ms=1000, lock_timeout_ms=60_000).test_client()
    with database.connect().execution_options(isolation_level="READ COMMITTED") as other, other.begin():
        other.exec_driver_sql("LOCK TABLE prediction_log IN ACCESS EXCLUSIVE MODE")
        response = impatient.get(URL)
    assert response.status_code == 503
    assert "LIST_TIMEOUT_MS" in response.json["message"]
    assert "model_name" in response.json["message"]
    until = time.monotonic() + 60
    while impatient.get(URL).status_code != 200:  # on a busy machine a second may be too little for any list
        assert time.monotonic() < until, "the limit was for that statement alone"


def test_predictions_of_years_ago_are_listed_if_there_are_no_newer_ones(client: FlaskClient, log: Log) -> None:
    old = log(timestamp="2025-06-09T12:34:56.789012Z")
    found = client.get(URL, query_string={"to": "2025-06-09T12:34:56.789013Z", "min_duration_ms": "0"}).json
    assert old in found
