"""GET /api/v1/errors"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

URL = "/api/v1/errors"
HOUR = timedelta(hours=1)


class Failing:
    """Logs failed predictions of one model."""

    def __init__(self, client: FlaskClient, model: str, midnight: datetime) -> None:
        self._client, self.model, self.midnight = client, model, midnight

    def log(self, hours: float, error: str | None, version: str | None = None, was_successful: bool = False) -> int:
        record = {"model_name": self.model, "duration_ms": 1, "was_successful": was_successful, "error": error}
        record |= {"timestamp": (self.midnight + hours * HOUR).isoformat(), "model_version": version}
        response = self._client.post("/api/v1/predict-log", json=record)
        assert response.status_code == 200, response.text
        return int(response.json["id"])

    def groups(self, **query: Any) -> list[dict[str, Any]]:
        response = self._client.get(URL, query_string={"model_name": self.model, **query})
        assert response.status_code == 200, response.text
        return list(response.json)

    def since(self, hours: float) -> str:
        return (self.midnight + hours * HOUR).isoformat()


@pytest.fixture
def failing(client: FlaskClient, model: str, midnight: datetime) -> Failing:
    return Failing(client, model, midnight)


@pytest.mark.parametrize(
    ("errors", "pattern"),
    [
        (["row 1 of 10", "row 22 of 3"], "row # of #"),
        (["took 1.5 s", "took 12,5 s"], "took # s"),
        ([f"request {uuid4()}", f"request {uuid4()}".upper().replace("REQUEST", "request")], "request #"),
        (["at 0x7f3a", "at 0xFFEE01"], "at #"),
        (["on 2025-06-09 10:32", "on 2026-01-01 09:00"], "on # #"),
        (["<b>%s</b> {0} \\1", "<b>%s</b> {7} \\2"], "<b>%s</b> {#} \\#"),
        (["ж" * 600, "ж" * 600 + "1"], "ж" * 500),
        ([None, None], None),
    ],
)
def test_errors_that_differ_in_numbers_and_identifiers_alone_are_one_group(
    failing: Failing, errors: list[str | None], pattern: str | None
) -> None:
    for error in errors:
        failing.log(1, error)
    [group] = failing.groups()
    assert (group["count"], group["pattern"]) == (2, pattern)


def test_errors_that_say_something_else_are_another_group(failing: Failing) -> None:
    for error in ("KeyError: 'a'", "KeyError: 'b'", "KeyError: 'a'"):
        failing.log(1, error)
    assert [(group["pattern"], group["count"]) for group in failing.groups()] == [
        ("KeyError: 'a'", 2),
        ("KeyError: 'b'", 1),
    ]


def test_counts_are_of_the_range_but_first_seen_may_lie_before_it(failing: Failing) -> None:
    failing.log(1, "no 1", "1")
    failing.log(3, "no 2", "2")
    last = failing.log(4, "no 3", "3")
    failing.log(6, "no 4", "4")
    [group] = failing.groups(**{"from": failing.since(2), "to": failing.since(5)})
    assert (group["count"], group["versions"], group["last_id"]) == (2, ["2", "3"], last)
    assert (group["first_seen"], group["first_version"]) == (failing.since(1), "1")
    assert group["last_seen"] == failing.since(4)


def test_an_error_of_before_the_range_alone_is_left_out(failing: Failing) -> None:
    failing.log(1, "old")
    assert failing.groups(**{"from": failing.since(2)}) == []


def test_of_one_version_its_predictions_are_counted_and_first_seen_is_of_any(failing: Failing) -> None:
    failing.log(1, "no", "1")
    failing.log(2, "no", "2")
    [group] = failing.groups(model_version="2")
    assert (group["count"], group["versions"], group["first_version"]) == (1, ["2"], "1")


def test_a_prediction_without_a_version_is_of_none(failing: Failing) -> None:
    failing.log(1, "no")
    [group] = failing.groups()
    assert (group["first_version"], group["versions"]) == (None, [None])


def test_predictions_that_succeeded_are_no_errors_whatever_they_say(failing: Failing) -> None:
    failing.log(1, "a warning", was_successful=True)
    assert failing.groups() == []


def test_the_pages_together_have_every_group_once_the_most_frequent_first(
    client: FlaskClient, failing: Failing
) -> None:
    for letter, number in zip("abcdefg", (2, 1, 3, 1, 1, 2, 1)):
        for _ in range(number):
            failing.log(1, f"error {letter}")
    whole = failing.groups()
    assert [group["count"] for group in whole] == [3, 2, 2, 1, 1, 1, 1]
    seen: list[Any] = []
    url: str | None = f"{URL}?model_name={failing.model}&limit=2"
    while url:
        response = client.get(url)
        seen += response.json
        link = response.headers.get("Link")
        url = urljoin(URL, link[1 : link.index(">")]) if link else ""
    assert seen == whole


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 201}, {"cursor": "AAAA"}, {"cursor": "WzEsImEiXQ"}, {"percentiles": "50"}, {"from": "x"}],
)
def test_nonsense_gets_a_clear_error(client: FlaskClient, query: dict[str, Any]) -> None:
    response = client.get(URL, query_string=query)
    assert response.status_code == 422
    assert set(response.json["errors"]["query"]) == set(query)
