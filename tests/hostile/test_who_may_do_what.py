"""Rights under hostile requests: only the key itself is accepted, and a bound key reads no other model.

HOSTILE_CASES says how many requests to make at the least; by default there are fewer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.domain.keys import Scope
from app.presentation.services import services
from conftest import Server, make_app

CASES = int(os.environ.get("HOSTILE_CASES", "0"))
HOSTILE = settings(
    max_examples=max(200, CASES // 4),
    deadline=None,
    derandomize=not CASES,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
MINE, OTHER = (f"who-{name}-{uuid4().hex}" for name in ("mine", "other"))
LIST = "/api/v1/predictions"
QUESTIONS = (
    LIST,
    "/api/v1/stats",
    "/api/v1/stats/timeseries",
    "/api/v1/stats/histogram",
    "/api/v1/stats/models",
    "/api/v1/errors",
    "/api/v1/stats/compare",
    "/api/v1/models",
    "/metrics",
)
NAMES = [MINE, OTHER, OTHER.upper(), f" {OTHER}", f"{OTHER} ", f"{MINE},{OTHER}", OTHER[:-1], "%", "*", "", "who-%"]

# A change of a key before it is sent: an index in it, and the text that replaces so many characters there.
DAMAGES = st.tuples(
    st.integers(0, 80), st.integers(0, 80), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9)
)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "model_name": st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
        "model_version": st.sampled_from(["1", "2", "", OTHER]),
        "group_by": st.sampled_from(["model_name", "model_version", "model_name,model_version"]),
        "from": st.sampled_from(["2020-01-01", "2026-01-01"]),
        "bucket": st.sampled_from(["1d", "auto"]),
        "limit": st.integers(1, 3),
        "version_a": st.sampled_from(["1", "2"]),
        "version_b": st.sampled_from(["1", "2"]),
        "cursor": st.sampled_from(["list", "models"]),
    },
)


@dataclass(frozen=True)
class House:
    client: FlaskClient
    sent: dict[str, str]
    cursors: dict[str, str]

    def get(self, path: str, key: str, **query: Any) -> Any:
        return self.client.get(path, query_string=query, headers={"X-API-Key": key})


@pytest.fixture(scope="module")
def house(server: Server, database: Engine) -> Iterator[House]:
    """A service with predictions of two models, one of which a key may read."""
    app = make_app(server.url, auth="keys", pool_size=8 if server.concurrent else 1)
    with app.app_context():
        keys = services().keys
    sent = {
        "admin": keys.create("admin", Scope.ADMIN)[1],
        "mine": keys.create("mine", Scope.READ, [MINE])[1],
    }
    client = app.test_client()
    for model in (MINE, OTHER) * 3:
        for version in ("1", "2"):
            record = {"model_name": model, "duration_ms": 1, "was_successful": True, "model_version": version}
            record["timestamp"] = datetime.now(timezone.utc).isoformat()
            headers = {"X-API-Key": sent["admin"]}
            assert client.post("/api/v1/predict-log", json=record, headers=headers).status_code == 200
    house = House(client, sent, {})
    for name, path in (("list", LIST), ("models", "/api/v1/models")):
        link = house.get(path, sent["admin"], limit=1).headers["Link"]
        house.cursors[name] = parse_qs(urlsplit(link.partition("<")[2].partition(">")[0]).query)["cursor"][0]
    yield house
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


@HOSTILE
@given(place=st.sampled_from(["X-API-Key", "Authorization"]), damage=DAMAGES)
def test_nothing_but_the_key_itself_is_taken(house: House, place: str, damage: tuple[int, int, str]) -> None:
    key = house.sent["admin"]
    start, length, text = damage
    damaged = key[:start] + text + key[start + length :]
    value = f"Bearer {damaged}" if place == "Authorization" else damaged
    expected = 200 if damaged == key else 401
    assert house.client.get("/api/v1/models?limit=1", headers={place: value}).status_code == expected


@HOSTILE
@given(path=st.sampled_from(QUESTIONS), query=QUERIES)
def test_whatever_a_bound_key_asks_it_is_told_of_no_other_model(house: House, path: str, query: dict[str, Any]) -> None:
    if "cursor" in query:
        query["cursor"] = house.cursors[query["cursor"]]
    response = house.get(path, house.sent["mine"], **query)
    assert response.status_code in (200, 403, 422), response.text
    # Another model's name may stand in a refusal only if the caller has sent it.
    if response.status_code == 200:
        assert OTHER not in response.text
        body = response.json
        if isinstance(body, dict) and "total_requests" in body:
            assert body["total_requests"] <= 6
        if isinstance(body, dict) and "a" in body:
            assert body["a"]["total_requests"] + body["b"]["total_requests"] <= 6


@pytest.mark.parametrize("caller", ["mine"])
def test_no_record_of_another_model_is_found_by_its_id(house: House, caller: str) -> None:
    records = house.get(LIST, house.sent["admin"], model_name=OTHER).json
    assert len(records) == 6
    answers = {house.get(f"{LIST}/{record['id']}", house.sent[caller]).status_code for record in records}
    assert answers == {404}
