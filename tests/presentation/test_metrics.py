"""GET /metrics: all figures are there, and are right."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, cast
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import Engine

from app.application import database_stats
from app.application.database_stats import Condition, Watch
from app.application.keys import Keys
from app.domain.errors import StorageUnavailable
from app.domain.keys import Scope
from app.infrastructure.prediction_store import PostgresPredictionStore
from app.presentation.services import services
from conftest import Server, make_app
from support.capture import statements
from support.figures import Figures
from support.scratch import empty_database, url_where_nobody_listens

LOG, BATCH = "/api/v1/predict-log", "/api/v1/predict-logs"
REQUESTS = "predlog_http_request_duration_seconds_count"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the database may take more than two seconds to tell its condition."""
    monkeypatch.setattr(database_stats, "TIMEOUT_S", 60.0)


@pytest.fixture
def counting(server: Server) -> FlaskClient:
    """A client of a service that has counted nothing yet."""
    return make_app(server.url, pool_size=2 if server.concurrent else 1).test_client()


@pytest.fixture
def cut_off() -> FlaskClient:
    """The same, its database away."""
    return make_app(url_where_nobody_listens()).test_client()


def scrape(client: FlaskClient) -> Figures:
    response = client.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return Figures(response.text)


def record(**fields: Any) -> dict[str, Any]:
    return {"model_name": "counted", "duration_ms": 1, "was_successful": True, **fields}


def test_every_series_is_there_before_anything_has_happened(cut_off: FlaskClient) -> None:
    figures = scrape(cut_off)
    for name in ("stored", "duplicate", "rejected", "dropped"):
        assert figures.labels(f"predlog_records_{name}_total")
    assert {each["reason"] for each in figures.labels("predlog_records_dropped_total")} == {
        "queue_full", "spool_full", "rejected", "expired", "exit",
    }  # fmt: skip
    for name in ("predlog_requests_refused_total", "predlog_pool_waits_total", "predlog_pool_timeouts_total"):
        assert figures.labels(name)
        assert figures(name) == 0


def test_each_family_has_a_type_and_a_meaning(counting: FlaskClient) -> None:
    for family in scrape(counting).families:
        assert family.name.startswith("predlog_")
        assert family.type in ("counter", "gauge", "histogram")
        assert family.documentation.endswith(".")


def test_requests_are_counted_by_template_method_and_status(counting: FlaskClient) -> None:
    counting.get("/health")
    counting.get("/api/v1/predictions/1")
    counting.get("/api/v1/predictions/x")
    counting.delete("/api/v1/predictions/9223372036854775807")
    figures = scrape(counting)
    template = "/api/v1/predictions/<prediction_id>"
    assert figures(REQUESTS, route="/health", method="GET", status="200") == 1
    assert figures(REQUESTS, route=template, method="GET", status="422") == 1
    assert figures(REQUESTS, route=template, method="GET") == 2
    assert figures(REQUESTS, route=template, method="DELETE", status="404") == 1
    assert figures(REQUESTS, route="/metrics") == 0
    assert scrape(counting)(REQUESTS, route="/metrics", status="200") == 1


def test_a_request_is_in_the_buckets_of_its_duration(cut_off: FlaskClient) -> None:
    cut_off.get("/health")
    figures = scrape(cut_off)
    name = "predlog_http_request_duration_seconds"
    assert figures(f"{name}_bucket", route="/health", le="+Inf") == 1
    assert figures(f"{name}_bucket", route="/health", le="30.0") == 1
    assert 0 < figures(f"{name}_sum", route="/health") < 30


def test_what_strangers_make_up_adds_no_series(counting: FlaskClient) -> None:
    def series() -> set[tuple[str, str, str]]:
        return {(each["route"], each["method"], each["status"]) for each in scrape(counting).labels(REQUESTS)}

    counting.get(f"/{uuid4()}")
    counting.open("/health", method="BREW")
    counting.post(LOG, json=record(model_name=str(uuid4())))
    counting.post(LOG, json=record(**{str(uuid4()): 1}))
    before = series()
    for _ in range(3):
        counting.get(f"/{uuid4()}/{uuid4()}?{uuid4()}")
        counting.open("/health", method=uuid4().hex.upper())
        counting.post(LOG, json=record(model_name=str(uuid4())))
        counting.post(LOG, json=record(**{str(uuid4()): 1}))
    assert series() - before == {("/metrics", "GET", "200")}
    assert ("none", "GET", "404") in before
    assert ("none", "other", "405") in before
    assert scrape(counting)("predlog_records_rejected_total", reason="unknown_field") == 4


def test_records_are_counted_at_both_doors(counting: FlaskClient) -> None:
    again = {"request_id": str(uuid4()), "timestamp": "2025-06-09T12:00:00Z"}
    counting.post(LOG, json=record())
    counting.post(LOG, json=record(**again))
    counting.post(LOG, json=record(**again))
    counting.post(BATCH, json=[record(), record(**again), record(), record(duration_ms="x")])
    figures = scrape(counting)
    assert figures("predlog_records_stored_total") == 4
    assert figures("predlog_records_duplicate_total") == 2
    assert figures("predlog_records_rejected_total") == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (record(duration_ms=-1), "duration_ms"),
        (record(model_name=""), "model_name"),
        (record(timestamp="9999-01-01T00:00:00Z"), "timestamp"),
        (record(metadata=[]), "metadata"),
        (record(error=1), "error"),
        (record(request_id="x"), "request_id"),
        (record(model_version=""), "model_version"),
        (record(was_successful="yes"), "was_successful"),
        (record(duration_ms="x", error=1, nonsense=2), "duration_ms"),
        (record(nonsense=2), "unknown_field"),
        ([], "no_object"),
        (1, "no_object"),
    ],
)
def test_a_rejected_record_is_counted_under_the_same_reason_at_both_doors(
    counting: FlaskClient, sent: Any, reason: str
) -> None:
    assert counting.post(LOG, json=sent).status_code == 422
    assert counting.post(BATCH, json=[sent, sent]).status_code == 422
    assert counting.post(BATCH, data=json.dumps(sent), content_type="application/x-ndjson").status_code == 422
    figures = scrape(counting)
    assert figures("predlog_records_rejected_total", reason=reason) == 4
    assert figures("predlog_records_rejected_total") == 4


def test_a_body_that_is_no_json_is_counted_too(counting: FlaskClient) -> None:
    counting.post(LOG, data="{", content_type="application/json")
    counting.post(BATCH, data="{\n", content_type="application/x-ndjson")
    assert scrape(counting)("predlog_records_rejected_total", reason="no_object") == 2


def test_a_batch_that_cannot_be_read_at_all_rejects_no_known_number_of_records(counting: FlaskClient) -> None:
    assert counting.post(BATCH, data="[{", content_type="application/json").status_code == 400
    assert counting.post(BATCH, data="x", content_type="text/plain").status_code == 415
    figures = scrape(counting)
    assert figures("predlog_records_rejected_total") == 0
    assert figures(REQUESTS, route=BATCH, status="400") == figures(REQUESTS, route=BATCH, status="415") == 1


def test_what_clients_dropped_is_counted_by_reason(counting: FlaskClient) -> None:
    def report(reason: str, count: int) -> dict[str, Any]:
        return {
            "id": str(uuid4()), "model_name": "counted", "timestamp": datetime.now(timezone.utc).isoformat(),
            "reason": reason, "count": count,
        }  # fmt: skip

    reports = [report("queue_full", 3), report("queue_full", 4), report("expired", 5)]
    response = counting.post(BATCH, json=[record()], headers={"Predlog-Dropped": json.dumps(reports)})
    assert response.status_code == 200, response.text
    figures = scrape(counting)
    assert figures("predlog_records_dropped_total", reason="queue_full") == 7
    assert figures("predlog_records_dropped_total", reason="expired") == 5
    assert figures("predlog_records_dropped_total") == 12


def test_nothing_is_counted_as_stored_that_was_not(cut_off: FlaskClient) -> None:
    cut_off.post(LOG, json=record())
    cut_off.post(BATCH, json=[record()])
    figures = scrape(cut_off)
    assert figures("predlog_records_stored_total") == 0
    assert figures("predlog_requests_refused_total", reason="database_away") == 2
    assert figures("predlog_requests_refused_total") == 2


def test_a_dead_database_is_reported_and_the_rest_is_answered(cut_off: FlaskClient) -> None:
    cut_off.get("/health")
    figures = scrape(cut_off)
    assert figures.labels("predlog_database_up") == [{}]
    assert figures("predlog_database_up") == 0
    assert figures("predlog_build_info") == 1
    assert figures(REQUESTS, route="/health") == 1
    for name in ("database_size_bytes", "aggregate_lag_seconds", "hours_pending_repair", "database_info"):
        assert figures.labels(f"predlog_{name}") == [], "not known is not nothing"


def test_the_condition_of_the_database_is_told(counting: FlaskClient, server: Server) -> None:
    figures = scrape(counting)
    assert figures("predlog_database_up") == 1
    assert figures.labels("predlog_database_info") == [{"engine": server.engine}]
    assert figures("predlog_database_size_bytes") > 1_000_000
    assert figures.labels("predlog_aggregate_lag_seconds") == figures.labels("predlog_hours_pending_repair") == [{}]
    if server.engine != "timescale":
        assert figures("predlog_aggregate_lag_seconds") == figures("predlog_hours_pending_repair") == 0


# Also for TimescaleDB's own worker, which refreshes invalid hours after it has moved the watermark.
IS_RECENT_AND_DONE = """
SELECT watermark > now() - INTERVAL '5 minutes' AND pid IS NULL FROM prediction_stats_state, prediction_stats_holder
"""


def test_how_far_the_aggregates_are_behind_is_told(servers: Callable[[str], Server]) -> None:
    server = servers("timescale")
    with empty_database(server) as url:
        app = make_app(url, pool_size=1)
        client = app.test_client()
        with app.app_context():
            upgrade()
        with engine_of(app).connect() as connection:
            connection.exec_driver_sql("SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs")
            while not connection.exec_driver_sql(IS_RECENT_AND_DONE).scalar():
                connection.exec_driver_sql("CALL prediction_stats_job(0, '{}')")
        for time in ("2025-06-09T12:00:00Z", "2025-06-09T12:30:00Z", "2025-06-09T13:59:00Z"):
            assert client.post(LOG, json=record(timestamp=time)).status_code == 200
        figures = scrape(client)
        assert figures("predlog_hours_pending_repair") == 2
        answer = client.get("/api/v1/stats", query_string={"from": "2025-06-09", "to": "2025-06-10"}).json
        assert answer["freshness"]["hours_pending_repair"] == 2, "all who tell it tell the same"
        assert 0 < figures("predlog_aggregate_lag_seconds") < 3600
        engine_of(app).dispose()


def test_however_often_it_is_asked_the_database_is_not(counting: FlaskClient) -> None:
    with statements() as sent:
        for _ in range(20):
            scrape(counting)
    assert len([statement for statement in sent if "pg_database_size" in statement.text]) == 1


def test_build_and_pool_are_told(counting: FlaskClient, server: Server) -> None:
    figures = scrape(counting)
    (build,) = figures.labels("predlog_build_info")
    assert build["version"].count(".") == 2
    assert build["python"].startswith("3.")
    assert figures("predlog_pool_size") == (2 if server.concurrent else 1)


def test_a_pool_that_has_nothing_left_is_seen(server: Server) -> None:
    app = make_app(server.url, pool_size=1, pool_timeout_s=0.1)
    client = app.test_client()
    client.get("/api/v1/predictions?limit=1")
    assert scrape(client)("predlog_pool_in_use", database="primary") == 0
    with engine_of(app).connect():
        assert client.get("/api/v1/predictions?limit=1").status_code == 503
        assert client.post(LOG, json=record()).status_code == 503
        in_use = Figures(client.get("/metrics").text)
    assert in_use("predlog_pool_in_use", database="primary") == 1
    figures = scrape(client)
    assert figures("predlog_pool_in_use", database="primary") == 0
    assert figures("predlog_pool_timeouts_total", database="primary") >= 2
    assert figures("predlog_pool_waits_total", database="primary") >= 2
    assert figures("predlog_requests_refused_total", reason="database_busy") == 2


def test_a_lock_that_is_not_had_in_time_is_no_database_that_is_away(
    server: Server, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    if not server.concurrent:
        pytest.skip("one session at a time")
    client = make_app(server.url, lock_timeout_ms=50).test_client()
    with database.connect().execution_options(isolation_level="READ COMMITTED") as other, other.begin():
        other.exec_driver_sql("LOCK TABLE prediction_log IN ACCESS EXCLUSIVE MODE")
        response = client.get("/api/v1/predictions?limit=1")
    assert (response.status_code, response.json["message"]) == (503, "The database is busy.")
    assert scrape(client)("predlog_requests_refused_total", reason="database_busy") == 1
    assert "LockNotAvailable" in capsys.readouterr().err


def test_a_call_that_waits_for_a_connection_and_gets_it_is_no_timeout(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(server.url, pool_size=1, pool_timeout_s=60)
    client, engine, waits = app.test_client(), engine_of(app), threading.Event()
    count, connection = engine.pool.meter.waited, engine.connect()

    def waited() -> None:
        count()
        waits.set()

    def close() -> None:
        waits.wait(60)
        connection.close()

    monkeypatch.setattr(engine.pool.meter, "waited", waited)
    closer = threading.Thread(target=close)
    closer.start()
    assert client.get("/api/v1/predictions?limit=1").status_code == 200
    closer.join()
    figures = scrape(client)
    assert figures("predlog_pool_waits_total") == 1
    assert figures("predlog_pool_timeouts_total") == 0


def engine_of(app: Flask) -> Any:
    with app.app_context():
        return cast(PostgresPredictionStore, services().predictions._store)._database.engine


@pytest.fixture
def guarded(server: Server) -> Iterator[tuple[FlaskClient, Keys]]:
    app = make_app(server.url, auth="keys", pool_size=2 if server.concurrent else 1)
    with app.app_context():
        keys = services().keys
    yield app.test_client(), keys
    with engine_of(app).connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


def test_a_key_that_may_read_may_scrape_and_no_other(guarded: tuple[FlaskClient, Keys]) -> None:
    client, keys = guarded
    made = {scope: keys.create(scope.value, scope)[1] for scope in Scope}
    status = {
        scope: client.get("/metrics", headers={"Authorization": f"Bearer {key}"}).status_code
        for scope, key in made.items()
    }
    assert status == {Scope.WRITE: 403, Scope.READ: 200, Scope.ADMIN: 200}
    assert client.get("/metrics").status_code == 401


def test_records_of_models_that_a_key_may_not_log_are_counted(guarded: tuple[FlaskClient, Keys]) -> None:
    client, keys = guarded
    _, bound = keys.create("bound", Scope.WRITE, ["mine"])
    _, reader = keys.create("reader", Scope.READ)
    headers = {"X-API-Key": bound}
    assert client.post(LOG, json=record(), headers=headers).status_code == 403
    assert client.post(BATCH, json=[record(model_name="mine"), record()], headers=headers).status_code == 207
    figures = Figures(client.get("/metrics", headers={"X-API-Key": reader}).text)
    assert figures("predlog_records_rejected_total", reason="not_allowed") == 2
    assert figures("predlog_records_rejected_total") == 2


def test_with_the_keys_known_the_database_may_be_away_for_long(
    guarded: tuple[FlaskClient, Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, keys = guarded
    _, key = keys.create("scraper", Scope.READ)
    headers = {"X-API-Key": key}
    assert client.get("/metrics", headers=headers).status_code == 200

    def away(*_: Any) -> None:
        raise StorageUnavailable("The database is not available.")

    ring = keys._ring
    later = ring._clock() + 3600
    monkeypatch.setattr(ring, "_read", away)
    monkeypatch.setattr(ring, "_clock", lambda: later)
    assert client.get("/api/v1/predictions", headers=headers).status_code == 503
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/metrics", headers={"X-API-Key": key + "x"}).status_code == 401


def watchers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "watch-database"}


def test_a_database_that_hangs_does_not_hold_the_scrape_up(
    cut_off: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_stats, "TIMEOUT_S", 0.1)
    awake, others = threading.Event(), watchers()

    def hang() -> Condition:
        awake.wait(120)
        raise StorageUnavailable("late")

    watch = Watch(hang)
    services_of = cut_off.application.extensions["predlog"]
    object.__setattr__(services_of, "watch", watch)
    try:
        for _ in range(2):
            assert scrape(cut_off)("predlog_database_up") == 0
        assert len(watchers() - others) == 1
    finally:
        awake.set()


def test_the_openapi_document_describes_it_as_text(cut_off: FlaskClient) -> None:
    operation = cut_off.get("/openapi.json").json["paths"]["/metrics"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["text/plain"]
    assert "scope `read`" in operation["description"]
