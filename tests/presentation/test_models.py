"""GET /api/v1/models"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine

from app.application.catalogue import Catalogue, Entry
from app.application.catalogue_places import CatalogueReader
from app.application.statistics import Statistics
from app.domain.instants import DAY, HOUR, MINUTE, floor
from app.domain.sketch import RELATIVE_ERROR
from app.infrastructure.catalogue_store import PostgresCatalogueStore, SnapshotReader
from app.presentation.resources.catalogue import EXAMPLE, ModelSchema
from support.capture import statements

URL = "/api/v1/models"
SECOND = timedelta(seconds=1)
T = TypeVar("T")
Put = Callable[..., None]
Delete = Callable[[Sequence[datetime]], None]

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT timestamp, %(model)s, %(version)s, n, n > %(failed)s
FROM   unnest(%(timestamps)s::timestamptz[]) WITH ORDINALITY AS predictions (timestamp, n)
"""

MANY_VERSIONS = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT now() - n * INTERVAL '10 minutes', %(model)s, n::text, n, true
FROM   generate_series(1, %(number)s) AS n
"""

WATERMARK_IS_PAST = """
SELECT watermark > now() - INTERVAL '5 minutes' AND NOT EXISTS (SELECT FROM prediction_invalidation)
FROM   prediction_stats_state
"""


@pytest.fixture
def put(database: Engine, model: str) -> Put:
    """Insert predictions of one version at these times; the nth takes n milliseconds, the first ones failed."""

    def put(timestamps: Sequence[datetime], version: str = "1", failed: int = 0) -> None:
        with database.connect() as connection:
            connection.exec_driver_sql(
                INSERT, {"model": model, "version": version, "failed": failed, "timestamps": list(timestamps)}
            )

    return put


@pytest.fixture
def refresh_all(database: Engine, refresh: Callable[[], None]) -> Callable[[], None]:
    """Refresh until no invalidated hour is left; hours that the database's own job refreshes are left to it."""

    def refresh_all() -> None:
        until = time.monotonic() + 120
        with database.connect() as connection:
            while time.monotonic() < until:
                refresh()
                if connection.exec_driver_sql(WATERMARK_IS_PAST).scalar():
                    return
                time.sleep(0.5)
        raise AssertionError("the aggregates are not up to date after two minutes")

    return refresh_all


@pytest.fixture
def delete(database: Engine, model: str) -> Delete:
    """Delete the predictions at these times."""

    def delete(timestamps: Sequence[datetime]) -> None:
        with database.connect() as connection:
            connection.exec_driver_sql(
                "DELETE FROM prediction_log WHERE model_name = %(model)s AND timestamp = ANY (%(timestamps)s)",
                {"model": model, "timestamps": list(timestamps)},
            )

    return delete


@pytest.fixture
def models(client: FlaskClient, model: str) -> Callable[..., list[dict[str, Any]]]:
    """The versions of `model`; the answer is what the documentation promises."""

    def models(**query: Any) -> list[dict[str, Any]]:
        response = client.get(URL, query_string={"model_name": model, **query})
        assert response.status_code == 200, response.text
        assert ModelSchema(many=True).validate(response.json) == {}
        return list(response.json)

    return models


def ago(length: timedelta) -> datetime:
    return datetime.now(timezone.utc) - length


def every(gap: timedelta, length: timedelta, last: timedelta = timedelta()) -> list[datetime]:
    """Predictions at equal distances, the last of them so long ago."""
    end = ago(last)
    return [end - i * gap for i in range(int(length / gap), -1, -1)]


def test_a_single_prediction_is_first_and_last_and_has_no_gap(models: Any, log: Any) -> None:
    log(model_version="1", duration_ms=40, timestamp="2025-06-09T12:00:00.123456")
    (entry,) = models()
    assert entry.pop("model_name")
    nothing = {"total_requests": 0, "failed_requests": 0, "error_rate": None, "p95_duration_ms": None}
    assert entry == {
        "model_version": "1",
        "first_seen": "2025-06-09T12:00:00.123456+00:00",
        "first_seen_within_s": 0,
        "last_seen": "2025-06-09T12:00:00.123456+00:00",
        "last_seen_within_s": 0,
        "silent": None,
        "usual_gap_s": None,
        "last_hour": nothing,
        "last_day": nothing,
        "all_time": {"total_requests": 1, "failed_requests": 0, "error_rate": 0.0, "p95_duration_ms": 40},
    }


def test_predictions_of_the_last_hour_the_last_day_and_of_all_time_are_counted(models: Any, put: Put) -> None:
    put([ago(40 * DAY - i * SECOND) for i in range(100)], failed=50)
    put([ago(5 * HOUR - i * SECOND) for i in range(60)], failed=30)
    put([ago(30 * MINUTE - i * SECOND) for i in range(40)], failed=4)
    (entry,) = models()
    windows = [entry[name] for name in ("last_hour", "last_day", "all_time")]
    assert [window["total_requests"] for window in windows] == [40, 100, 200]
    assert [window["failed_requests"] for window in windows] == [4, 34, 84]
    assert [window["error_rate"] for window in windows] == [0.1, 0.34, 0.42]
    # percentile_cont of 1 … 40, of 1 … 60 with them, and of 1 … 100 with both
    for window, true in zip(windows, (38.05, 55.05, 90.05)):
        assert window["p95_duration_ms"] == pytest.approx(true, rel=RELATIVE_ERROR)


def test_each_version_is_an_entry_and_predictions_without_one_are_too(models: Any, put: Put) -> None:
    for version in ("1.10", "", "1.9"):
        put([ago(MINUTE)], version)
    assert [entry["model_version"] for entry in models()] == [None, "1.10", "1.9"]


def test_a_model_that_nobody_has_logged_is_not_there(models: Any) -> None:
    assert models() == []


@pytest.mark.parametrize("age", [2 * MINUTE, 3 * HOUR, 30 * HOUR, 12 * DAY, 300 * DAY])
def test_the_first_and_the_last_prediction_are_known_to_the_microsecond(
    models: Any, put: Put, refresh: Callable[[], None], age: timedelta
) -> None:
    predictions = sorted(ago(age) - i * timedelta(seconds=17.000123) for i in range(200))
    put(predictions, "1")
    put([predictions[0] + SECOND, predictions[90], predictions[-1] - SECOND], "2")
    for _ in range(2):  # before it is materialised, and after
        for entry, own in zip(models(), (predictions, [predictions[0] + SECOND, predictions[-1] - SECOND])):
            assert (entry["first_seen"], entry["last_seen"]) == (own[0].isoformat(), own[-1].isoformat())
        refresh()


def test_the_first_prediction_and_the_last_one_are_others_as_soon_as_they_are(
    models: Any, put: Put, delete: Delete, refresh: Callable[[], None]
) -> None:
    predictions = every(7 * HOUR, 10 * DAY, last=DAY)
    put(predictions)
    refresh()
    (entry,) = models()
    assert (entry["first_seen"], entry["last_seen"]) == (predictions[0].isoformat(), predictions[-1].isoformat())
    early, late = predictions[0] - HOUR, predictions[-1] + HOUR
    steps: tuple[Callable[[], object], ...] = (lambda: None, refresh)
    for step in steps:
        put([early, late])
        step()
        (entry,) = models()
        assert (entry["first_seen"], entry["last_seen"]) == (early.isoformat(), late.isoformat())
        delete([early, late])
        step()
        (entry,) = models()
        assert (entry["first_seen"], entry["last_seen"]) == (predictions[0].isoformat(), predictions[-1].isoformat())
        assert entry["all_time"]["total_requests"] == len(predictions)


def test_a_version_whose_predictions_are_all_deleted_is_gone(models: Any, put: Put, delete: Delete) -> None:
    predictions = [ago(MINUTE)]
    put(predictions, "1")
    put([ago(2 * MINUTE)], "2")
    delete(predictions)
    assert [entry["model_version"] for entry in models()] == ["2"]


@pytest.mark.parametrize(
    ("gap", "length", "last", "silent"),
    [
        (SECOND, 10 * MINUTE, 2 * MINUTE, True),
        (SECOND, 10 * MINUTE, 20 * SECOND, False),
        (MINUTE, 2 * HOUR, 8 * MINUTE, False),
        (MINUTE, 2 * HOUR, 13 * MINUTE, True),
        (HOUR, 5 * DAY, 7 * HOUR, False),
        (HOUR, 5 * DAY, 14 * HOUR, True),
        (DAY, 20 * DAY, HOUR, False),
        (DAY, 20 * DAY, 12 * DAY, True),
        (SECOND, 10 * MINUTE, 50 * DAY, True),
    ],
)
def test_a_model_is_silent_after_ten_times_its_usual_gap(
    models: Any, put: Put, gap: timedelta, length: timedelta, last: timedelta, silent: bool
) -> None:
    put(every(gap, length, last))
    (entry,) = models()
    assert entry["silent"] is silent
    if last < 50 * DAY:  # so long ago, only the days are looked at
        assert entry["usual_gap_s"] == pytest.approx(gap.total_seconds(), rel=0.35)


def test_a_nightly_job_is_not_silent_by_day(models: Any, put: Put) -> None:
    put([floor(ago(9 * HOUR), HOUR) - night * DAY + i * SECOND for night in range(5) for i in range(300)])
    (entry,) = models()
    assert entry["silent"] is False
    assert entry["usual_gap_s"] == 86_400


def test_pages_follow_each_other_until_all_are_seen(client: FlaskClient, model: str, log: Any) -> None:
    names = [model, f"{model} & ünicode"]
    for name in names:
        for version in ("1", "2", None):
            log(model_name=name, timestamp="2025-06-09T12:00:00", **({"model_version": version} if version else {}))
    seen, address = [], f"{URL}?{urlencode({'model_name': names, 'limit': 4}, doseq=True)}"
    for _ in range(2):
        response = client.get(address)
        page = response.json or []
        seen += [(entry["model_name"], entry["model_version"]) for entry in page]
        link = re.fullmatch(r'<(.*)>; rel="next"', response.headers.get("Link", ""))
        assert (link is not None) == (len(seen) < 6)
        address = urljoin(URL, link[1]) if link else ""
    assert seen == [(name, version) for name in names for version in (None, "1", "2")]


def test_a_page_that_ends_with_the_last_entry_has_no_next_one(client: FlaskClient, model: str, log: Any) -> None:
    log(model_version="1")
    log(model_version="2")
    response = client.get(URL, query_string={"model_name": model, "limit": 2})
    assert len(response.json or []) == 2
    assert "Link" not in response.headers


def test_models_come_in_the_order_of_their_characters(client: FlaskClient, model: str, log: Any) -> None:
    names = [f"{model}{tail}" for tail in ("-B", "-a", "Z", "_", "é", "ж", "\uffff", "😀")]
    for name in reversed(names):
        log(model_name=name)
    assert names == sorted(names)
    seen, address = [], f"{URL}?{urlencode({'model_name': names, 'limit': 3}, doseq=True)}"
    while address:
        response = client.get(address)
        seen += [entry["model_name"] for entry in response.json or []]
        link = re.fullmatch(r'<(.*)>; rel="next"', response.headers.get("Link", ""))
        address = urljoin(URL, link[1]) if link else ""
    assert seen == names


def test_models_are_found_by_a_part_of_their_name_page_by_page(client: FlaskClient, model: str, log: Any) -> None:
    for name in (f"{model}-Price", f"{model}-other", f"a-{model}-price_v2", f"{model}-%rice"):
        log(model_name=name)
    seen, address = [], f"{URL}?{urlencode({'search': f'{model}-PRICE', 'limit': 1})}"
    for _ in range(2):
        response = client.get(address)
        seen += [entry["model_name"] for entry in response.json or []]
        link = re.fullmatch(r'<(.*)>; rel="next"', response.headers.get("Link", ""))
        address = urljoin(URL, link[1]) if link else ""
    assert (seen, address) == ([f"a-{model}-price_v2", f"{model}-Price"], "")
    assert client.get(URL, query_string={"search": f"{model}-_rice"}).json == []


@pytest.mark.parametrize("url", [URL, "/api/v1/stats/models"])
def test_models_are_found_by_letters_of_any_script(
    client: FlaskClient, database: Engine, model: str, log: Any, url: str
) -> None:
    name = f"Оценка-ÉTÉ-{model}"
    log(model_name=name)

    def found(search: str) -> list[str]:
        answer = client.get(url, query_string={"search": search}).json
        return [entry["model_name"] for entry in (answer["models"] if isinstance(answer, dict) else answer)]

    with database.connect() as connection:
        folds = connection.exec_driver_sql("SELECT lower('ОЦЕНКА-ÉTÉ') = 'оценка-été'").scalar()
    assert found(name) == found(f"Оценка-ÉtÉ-{model.upper()}") == found(f"нка-ÉTÉ-{model}") == [name]
    assert found(f"оцЕНКА-été-{model}") == ([name] if folds else [])  # a database with the collation C knows ASCII only


@pytest.mark.parametrize(("limit", "first_page"), [(1, []), (2, ["b"])])
def test_a_model_that_is_deleted_while_its_page_is_made_ends_no_list(
    app: Flask,
    database: Engine,
    model: str,
    log: Any,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    first_page: list[str],
) -> None:
    for letter in "abc":
        log(model_name=f"{model}-{letter}")
    store: PostgresCatalogueStore = app.extensions["predlog"].readers._primary.catalogue._store

    def within_snapshot(work: Callable[[CatalogueReader], T]) -> T:
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM prediction_log WHERE model_name = %(name)s", {"name": f"{model}-a"})
        return PostgresCatalogueStore.within_snapshot(store, work)

    monkeypatch.setattr(store, "within_snapshot", within_snapshot)
    pages, address = [], f"{URL}?{urlencode({'search': model, 'limit': limit})}"
    while address:
        response = app.test_client().get(address)
        pages.append([entry["model_name"].removeprefix(f"{model}-") for entry in response.json or []])
        link = re.fullmatch(r'<(.*)>; rel="next"', response.headers.get("Link", ""))
        address = urljoin(URL, link[1]) if link else ""
    assert pages[0] == first_page
    assert [*chain(*pages)] == ["b", "c"]


def test_names_without_predictions_are_passed_over_however_many(
    client: FlaskClient, database: Engine, model: str, log: Any
) -> None:
    names = [f"{model}-{number:04}" for number in range(2500)]
    with database.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO prediction_model SELECT unnest(%(names)s::text[]), ''", {"names": names}
        )
    for number in (3, 1700, 2499):
        log(model_name=names[number])
    query = {"search": model, "limit": 2}
    first = client.get(URL, query_string=query)
    assert [entry["model_name"] for entry in first.json or []] == [names[3], names[1700]]
    link = re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])
    assert link
    second = client.get(urljoin(URL, link[1]))
    assert [entry["model_name"] for entry in second.json or []] == [names[2499]]
    assert "Link" not in second.headers
    with database.connect() as connection:
        connection.exec_driver_sql("CALL prediction_model_tidy(NULL)")
        left = connection.exec_driver_sql(
            "SELECT model_name FROM prediction_model WHERE model_name LIKE %(names)s ORDER BY 1", {"names": f"{model}%"}
        ).scalars()
        assert list(left) == [names[3], names[1700], names[2499]]


def test_a_page_counts_the_models_that_it_shows_and_no_others(
    client: FlaskClient, database: Engine, model: str, refresh: Callable[[], None]
) -> None:
    with database.connect() as connection:
        connection.exec_driver_sql(MANY_VERSIONS, {"model": model, "number": 300})
    refresh()
    with statements() as sent:
        response = client.get(URL, query_string={"model_name": model, "limit": 1})
    assert len(response.json or []) == 1
    with database.connect() as connection:
        fetched = [
            len(connection.exec_driver_sql(statement.text, statement.parameters).fetchall())
            for statement in sent
            if "prediction_" in statement.text
        ]
    assert fetched and max(fetched) < 20  # of 300 versions


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "here"}, "cursor"),
        ({"cursor": "WzEsMl0"}, "cursor"),
        ({"cursor": "Im5hbWUi"}, "cursor"),
        ({"model_name": ""}, "model_name"),
        ({"model_name": [str(i) for i in range(51)]}, "model_name"),
        ({"since": "2025-06-09"}, "since"),
        ({"search": ""}, "search"),
    ],
)
def test_bad_input_is_refused_by_the_name_of_the_parameter(
    client: FlaskClient, query: dict[str, Any], parameter: str
) -> None:
    response = client.get(URL, query_string=query)
    assert response.status_code == 422
    assert list((response.json or {})["errors"]["query"]) == [parameter]


class OneTransaction:
    """A catalogue's store that reads on a connection whose transaction is never committed."""

    def __init__(self, connection: Connection) -> None:
        def run(sql: str, values: dict[str, Any]) -> list[Any]:
            return list(connection.exec_driver_sql(sql, values).fetchall())

        (engine,) = run("SELECT engine FROM prediction_stats_state", {})[0]
        self._reader = SnapshotReader(run, lambda: engine == "citus")
        self.state, self.read, self.names = self._reader.state, self._reader.read, self._reader.names
        self.count_groups = self._reader.count_groups

    def within_snapshot(self, work: Callable[[CatalogueReader], T]) -> T:
        return work(self._reader)


@pytest.fixture
def retained(database: Engine, model: str) -> Iterator[Callable[..., Entry]]:
    """The entry of `model` as if retention had dropped levels so far; rolled back afterwards."""
    with database.connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
        transaction = connection.begin()

        def entry(**edges: datetime) -> Entry:
            # Before the snapshot is taken: a row that the job changed after it could not be changed here.
            connection.exec_driver_sql("LOCK TABLE prediction_stats_state IN EXCLUSIVE MODE")
            for name, edge in edges.items():
                connection.exec_driver_sql(f"UPDATE prediction_stats_state SET {name} = %(edge)s", {"edge": edge})
            store = OneTransaction(connection)
            catalogue = Catalogue(store, Statistics(store, {}))
            (entry,) = catalogue.page([model], None, 10, datetime.now(timezone.utc))[0]
            return entry

        yield entry
        transaction.rollback()


@pytest.mark.parametrize(
    ("edges", "width"),
    [(["raw_from"], MINUTE), (["raw_from", "minute_from"], HOUR), (["raw_from", "minute_from", "hour_from"], DAY)],
)
def test_if_raw_rows_are_gone_the_finest_bucket_that_is_left_is_given(
    put: Put, refresh_all: Callable[[], None], retained: Callable[..., Entry], edges: list[str], width: timedelta
) -> None:
    predictions = every(7 * HOUR, 20 * DAY, last=10 * DAY)
    put(predictions)
    refresh_all()
    entry = retained(**{edge: floor(ago(5 * DAY), DAY) for edge in edges})
    for place, prediction in ((entry.first_seen, predictions[0]), (entry.last_seen, predictions[-1])):
        assert (place.range.start, place.accuracy) == (floor(prediction, width), width)
    assert entry.all_time.total == len(predictions)


def test_rows_of_the_log_are_read_at_its_ends_only(
    client: FlaskClient, put: Put, refresh_all: Callable[[], None], database: Engine, model: str
) -> None:
    put(every(MINUTE, 3 * DAY, last=HOUR / 2))
    put(every(5 * MINUTE, 2 * DAY, last=DAY), "2")
    refresh_all()
    client.get(URL, query_string={"model_name": model})  # that what has just been repaired is known
    with statements() as sent:
        response = client.get(URL, query_string={"model_name": model})
    assert len(response.json or []) == 2
    with database.connect() as connection:
        log = {"prediction_log", *_chunks(connection)}
        rows = 0
        for statement in sent:
            if "prediction_" not in statement.text:
                continue
            plan = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}", statement.parameters
            ).scalar_one()
            for node in _nodes(plan[0]["Plan"]):
                if node.get("Relation Name") in log:
                    rows += node["Actual Loops"] * node["Actual Rows"]
    assert rows < 100  # of 4,900: those of the cut minutes, and those that were looked up


def _chunks(connection: Connection) -> Sequence[str]:
    if not connection.exec_driver_sql("SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL").scalar():
        return []
    chunks = "SELECT chunk_name FROM timescaledb_information.chunks WHERE hypertable_name = 'prediction_log'"
    return list(connection.exec_driver_sql(chunks).scalars())


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def test_the_example_is_an_answer_as_documented() -> None:
    assert ModelSchema().validate(EXAMPLE) == {}


def test_the_links_of_the_service_name_both_pages(client: FlaskClient) -> None:
    links = (client.get("/").json or {})["links"]
    assert (urljoin("/", links["models"]), urljoin("/", links["compare"])) == (URL, "/api/v1/stats/compare")
