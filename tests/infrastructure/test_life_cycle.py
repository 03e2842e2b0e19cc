"""Retention, repair and the columnstore, on a database of their own: edges are for all of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import Engine, create_engine

from app.application.retention import LifeCycle
from app.commands.maintenance import MAX_PIECE_HOURS
from app.domain.instants import DAY
from app.infrastructure.maintenance import plain
from app.infrastructure.maintenance.engines import maintenance
from app.infrastructure.maintenance.relations import LOGGED, REPORTED
from app.infrastructure.postgres.database import Database
from conftest import Server, make_app
from support.days import today
from support.deadlocks import again_after_deadlocks
from support.scratch import empty_database

KEPT = {"raw_retention": 10 * DAY, "minute_retention": 20 * DAY}

AFTER = """
SELECT hypertable_name, (config ->> 'compress_after')::interval
FROM   timescaledb_information.jobs
WHERE  config ? 'compress_after'
"""
HAS_SPARSE_INDEXES = """
SELECT count(*)
FROM   information_schema.columns
WHERE  table_name = 'hypertable_columnstore_settings' AND column_name = 'index'
"""
SPARSE_INDEXES = """
SELECT jsonb_array_elements(index::jsonb)
FROM   timescaledb_information.hypertable_columnstore_settings
WHERE  hypertable = 'prediction_log'::regclass
"""

WAITS_FOR_LOG = """
SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'prediction_log'::regclass AND mode = 'ShareLock' AND NOT granted)
"""
WAITS_LONG_FOR_LOG = """
SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'prediction_log'::regclass AND mode = 'ShareLock' AND NOT granted
               AND waitstart < clock_timestamp() - current_setting('deadlock_timeout')::interval)
"""
INSERT = "INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful) VALUES (now(), 'm', 5, true)"

# As if the next piece of rows to be dropped had not come to it yet.
LEFT_OVER = """
BEGIN;
ALTER TABLE prediction_log DISABLE TRIGGER USER;
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful) VALUES (%(at)s, 'm', 5, true);
ALTER TABLE prediction_log ENABLE TRIGGER USER;
COMMIT
"""

LEFT_OVER_MINUTE = """
INSERT INTO prediction_stats_minute (bucket, model_name, model_version, total_requests, successful_requests,
                                     duration_ns_sum, duration_ms_min, duration_ms_max)
SELECT minute_from - INTERVAL '1 hour', 'left over', '', 1, 1, 1000000, 1, 1 FROM prediction_stats_state
"""

COMPRESS_AGGREGATES = """
SELECT compress_chunk(chunk, true)
FROM   unnest(ARRAY['prediction_stats_minute', 'prediction_stats_hour', 'prediction_latency_minute',
                    'prediction_latency_hour', 'prediction_latency_day']) AS relation,
       show_chunks(relation::regclass) AS chunk
"""


class House:
    """A service that keeps single predictions for ten days and minutes for twenty."""

    def __init__(self, app: Flask, engine: Engine, server: Server) -> None:
        self.app, self.engine, self.server, self.today = app, engine, server, today()
        self.client: FlaskClient = app.test_client()
        self.flask = app.test_cli_runner()

    def log(self, timestamp: datetime, expected: int = 200, **fields: Any) -> Any:
        record = {"model_name": "m", "duration_ms": 5, "was_successful": True, "timestamp": timestamp.isoformat()}
        response = self.client.post("/api/v1/predict-log", json=record | fields)
        assert response.status_code == expected, response.text
        return response.json

    def stats(self, start: datetime, end: datetime, model_name: str = "m") -> Any:
        query = {"model_name": model_name, "from": start.isoformat(), "to": end.isoformat()}
        response = self.client.get("/api/v1/stats", query_string=query)
        assert response.status_code == 200, response.text
        return response.json

    def run(self, *command: str) -> str:
        done = self.flask.invoke(args=list(command))
        assert done.exit_code == 0, done.output
        return str(done.output)

    def rows(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM prediction_log").scalar_one())

    def names(self) -> list[str]:
        """The names that are kept for the list of models, once they were tidied."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("CALL prediction_model_tidy(NULL)")
            return list(connection.exec_driver_sql("SELECT model_name FROM prediction_model ORDER BY 1").scalars())

    def retain(self) -> None:
        self.run("stats", "refresh")
        self.run("lifecycle", "retain")


@pytest.fixture(scope="module")
def house(server: Server) -> Iterator[House]:
    with empty_database(server) as url:
        pool = {"pool_size": 2 if server.concurrent else 1}
        app = make_app(url, **KEPT, **pool)
        with app.app_context():
            upgrade()
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
        house = House(app, engine, server)
        for day in range(1, 31):
            for minute in (0, 90):
                house.log(house.today - day * DAY + timedelta(minutes=600 + minute, seconds=20))
            if day > 10:
                house.log(house.today - day * DAY, model_name="typo")
            if day in (11, 12):
                for version in ("1", "2"):
                    house.log(house.today - day * DAY, model_name="twin", model_version=version)
        house.retain()
        yield house
        engine.dispose()


def test_rows_behind_the_edge_are_gone(house: House) -> None:
    assert house.rows() == 20


def test_aggregates_outlive_their_rows_and_still_answer(house: House) -> None:
    stats = house.stats(house.today - 30 * DAY, house.today)
    assert (stats["total_requests"], stats["cut_to_request"]) == (60, True)
    assert stats["percentiles"]["50"] == 5


def test_a_range_that_can_be_cut_to_the_minute_only_says_so(house: House) -> None:
    start = house.today - 15 * DAY + timedelta(hours=10, seconds=30)
    stats = house.stats(start, house.today - 14 * DAY)
    assert stats["cut_to_request"] is False
    assert stats["range"]["from"] == (start - timedelta(seconds=30)).isoformat()
    assert stats["total_requests"] == 2


def test_a_range_that_can_be_cut_to_the_hour_only_says_so(house: House) -> None:
    start = house.today - 25 * DAY + timedelta(hours=10, minutes=30)
    stats = house.stats(start, house.today - 24 * DAY)
    assert stats["range"]["from"] == (start - timedelta(minutes=30)).isoformat()
    assert (stats["total_requests"], stats["cut_to_request"]) == (2, False)


def test_a_model_is_purged_with_what_the_aggregates_alone_still_know_of_it(house: House) -> None:
    def models() -> list[str]:
        entries = house.client.get("/api/v1/models").json or []
        return [entry["model_name"] for entry in entries if entry["model_name"] != "twin"]

    others = house.stats(house.today - 30 * DAY, house.today)
    house.log(house.today - 5 * DAY + timedelta(hours=3), model_name="typo")
    assert models() == ["m", "typo"]
    assert house.stats(house.today - 30 * DAY, house.today, "typo")["total_requests"] == 21
    if house.server.engine == "timescale":
        with house.engine.connect() as connection:
            again_after_deadlocks(lambda: connection.exec_driver_sql(COMPRESS_AGGREGATES))
    since = f"?model_name=typo&from={(house.today - 25 * DAY).date()}&to={(house.today - 15 * DAY).date()}"
    answer = house.client.delete(f"/api/v1/predictions{since}").json or {}
    assert (answer["deleted"], answer["aggregates_deleted"]) == (0, False)
    assert answer["aggregates_kept_before"] == (house.today - 10 * DAY).isoformat()
    assert house.stats(house.today - 30 * DAY, house.today, "typo")["total_requests"] == 21
    answer = house.client.delete("/api/v1/predictions?model_name=typo").json or {}
    assert (answer["deleted"], answer["aggregates_deleted"], answer["complete"]) == (1, True, True)
    for _ in range(2):
        assert models() == ["m"]
        assert house.stats(house.today - 30 * DAY, house.today, "typo")["total_requests"] == 0
        assert house.stats(house.today - 30 * DAY, house.today)["total_requests"] == others["total_requests"]
        house.run("stats", "refresh")
    assert "typo" not in house.names()


def test_a_version_is_purged_whatever_of_the_columnstore_has_to_be_unpacked_for_it(house: House) -> None:
    if house.server.engine != "timescale" or not house.server.concurrent:
        pytest.skip("there is no columnstore, or no session of another limit")
    limit = f'ALTER DATABASE "{house.engine.url.database}" {{}} timescaledb.max_tuples_decompressed_per_dml_transaction'
    with house.engine.connect() as connection:
        again_after_deadlocks(lambda: connection.exec_driver_sql(COMPRESS_AGGREGATES))
        connection.exec_driver_sql(f"{limit.format('SET')} = 1")
        app = make_app(house.engine.url.render_as_string(hide_password=False), **KEPT)
        answer = app.test_client().delete("/api/v1/predictions?model_name=twin&model_version=1").json or {}
        connection.exec_driver_sql(limit.format("RESET"))
    assert (answer["aggregates_deleted"], answer["complete"]) == (True, True)
    assert house.stats(house.today - 30 * DAY, house.today, "twin")["total_requests"] == 2


def test_a_range_of_kept_rows_is_cut_to_the_second(house: House) -> None:
    day = house.today - 5 * DAY + timedelta(hours=10)
    assert house.stats(day + timedelta(seconds=21), day + timedelta(hours=1))["total_requests"] == 0
    assert house.stats(day + timedelta(seconds=20), day + timedelta(hours=1))["total_requests"] == 1


def test_a_prediction_behind_the_edge_is_refused_and_changes_nothing(house: House) -> None:
    error = house.log(house.today - 12 * DAY, expected=422)
    assert list(error["errors"]["json"]) == ["timestamp"]
    assert house.stats(house.today - 13 * DAY, house.today - 11 * DAY)["total_requests"] == 4


def test_a_prediction_behind_the_edge_that_retention_has_not_come_to_cannot_be_deleted(house: House) -> None:
    day = house.today - 14 * DAY
    before = house.stats(day, day + DAY)
    with house.engine.connect() as connection:
        if house.server.engine == "timescale":
            pytest.skip("chunks go at once")
        connection.exec_driver_sql(LEFT_OVER, {"at": day + timedelta(hours=10, seconds=20)})
        delete = connection.exec_driver_sql(
            "DELETE FROM prediction_log WHERE model_name = 'm' AND timestamp < %s", (day + DAY,)
        )
        assert delete.rowcount == 0
    assert house.stats(day, day + DAY) == before
    house.run("lifecycle", "retain")
    assert house.stats(day, day + DAY) == before


def test_a_late_prediction_before_the_edge_is_counted_and_kept_by_the_next_refresh(house: House) -> None:
    late = house.today - 9 * DAY + timedelta(hours=3, seconds=1)
    id = house.log(late)["id"]
    assert house.stats(house.today - 30 * DAY, house.today)["total_requests"] == 61
    house.retain()
    assert house.stats(house.today - 30 * DAY, house.today)["total_requests"] == 61
    assert house.client.delete(f"/api/v1/predictions/{id}").status_code == 200
    house.retain()
    assert house.stats(house.today - 30 * DAY, house.today)["total_requests"] == 60


def test_a_piece_of_a_refresh_may_be_all_of_history_and_no_more(house: House) -> None:
    house.run("stats", "refresh", "--piece-hours", str(MAX_PIECE_HOURS))
    refused = house.flask.invoke(args=["stats", "refresh", "--piece-hours", "99999999999999"])
    assert refused.exit_code == 2
    assert "Invalid value for '--piece-hours'" in refused.stderr


def test_lifecycle_show_is_a_table_of_all_relations(house: House) -> None:
    output = house.run("lifecycle", "show")
    shown = [line.split()[0] for line in output.splitlines() if line.startswith("prediction_")]
    assert shown[: len(LOGGED + REPORTED)] == [*LOGGED, *REPORTED]
    assert house.server.engine in output
    assert f"{house.today - 10 * DAY:%Y-%m-%d}" in output


def test_lifecycle_apply_gives_the_settings_to_the_jobs(house: House) -> None:
    if house.server.engine != "timescale":
        pytest.skip("the plain engine has no jobs")
    house.run("lifecycle", "apply")
    with house.engine.connect() as connection:
        config = connection.exec_driver_sql(
            "SELECT config FROM timescaledb_information.jobs WHERE proc_name = 'prediction_stats_job'"
        ).scalar_one()
    assert config == {"raw": "240 hours", "minute": "480 hours"}


def test_hours_and_days_go_to_the_columnstore_after_a_day_and_the_rest_as_it_is_set(house: House) -> None:
    if house.server.engine != "timescale":
        pytest.skip("the plain engine has no columnstore")
    house.run("lifecycle", "apply")
    with house.engine.connect() as connection:
        after = {str(name): found for name, found in connection.exec_driver_sql(AFTER)}
    coarse = ("prediction_stats_hour", "prediction_latency_hour", "prediction_latency_day")
    fine = ("prediction_log", "prediction_stats_minute", "prediction_latency_minute")
    expected = dict.fromkeys(coarse, DAY) | dict.fromkeys(fine, 7 * DAY)
    # TimescaleDB before 2.24 moves rows only.
    assert after in (expected, {"prediction_log": 7 * DAY})


def test_batches_of_the_columnstore_are_left_out_by_their_ids_and_request_ids(house: House) -> None:
    with house.engine.connect() as connection:
        if not connection.exec_driver_sql(HAS_SPARSE_INDEXES).scalar_one():
            pytest.skip("this TimescaleDB has no sparse indexes to be chosen, or there is none")
        indexes = connection.exec_driver_sql(SPARSE_INDEXES).scalars().all()
    assert {(index["type"], index["column"]) for index in indexes if index["source"] == "config"} == {
        ("minmax", "id"), ("bloom", "request_id")
    }  # fmt: skip


def test_in_a_batch_only_the_predictions_behind_the_edge_are_refused(house: House) -> None:
    now = datetime.now(timezone.utc)
    old, new = (now - 11 * DAY).isoformat(), (now - DAY).isoformat()
    prediction = {"model_name": "batched", "duration_ms": 1, "was_successful": True, "metadata": {"text": "ü"}}
    batch = [
        prediction | {"timestamp": old},
        prediction | {"duration_ms": "?"},
        prediction | {"timestamp": new},
        prediction | {"timestamp": old},
    ]
    response = house.client.post("/api/v1/predict-logs", json=batch)
    assert (response.status_code, response.json["stored"]) == (207, 1)
    assert [(r["index"], *r["errors"]) for r in response.json["rejected"]] == [
        (0, "timestamp"), (1, "duration_ms"), (3, "timestamp")
    ]  # fmt: skip
    assert house.client.get("/api/v1/predictions?model_name=batched").json[0]["metadata"] == {"text": "ü"}


def test_a_writer_that_takes_long_makes_others_wait_for_retention_only_a_moment(server: Server) -> None:
    if server.engine != "plain" or not server.concurrent:
        pytest.skip("on TimescaleDB a procedure of the migrations moves the edge, and on Citus nodes wait, too")
    with empty_database(server) as url, make_app(url, pool_size=1).app_context():
        upgrade()
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        retention = Database(url, pool_size=1)
        keep = LifeCycle({"raw": 10 * DAY}, columnstore_after=DAY)
        thread = threading.Thread(target=lambda: maintenance(retention).retain(keep), daemon=True)
        with engine.connect() as slow, engine.connect() as other:
            slow.exec_driver_sql("BEGIN")
            slow.exec_driver_sql(INSERT.replace("'m'", "'slow'"))  # no row of a rollup in common with the other
            thread.start()
            until = time.monotonic() + 60
            while not other.exec_driver_sql(WAITS_FOR_LOG).scalar():
                assert time.monotonic() < until
                time.sleep(0.01)
            other.exec_driver_sql("SET lock_timeout = '20s'")
            other.exec_driver_sql(INSERT)
            slow.exec_driver_sql("COMMIT")
            thread.join(60)
            assert other.exec_driver_sql("SELECT raw_from IS NOT NULL FROM prediction_stats_state").scalar()
        retention.engine.dispose()
        engine.dispose()


def test_retention_gives_up_with_a_sentence_if_a_writer_does_not_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    if house.server.engine != "plain" or not house.server.concurrent:
        pytest.skip("on TimescaleDB a procedure of the migrations moves the edge, and on Citus nodes wait, too")
    monkeypatch.setattr(plain, "MAX_TURNS", 2)
    monkeypatch.setattr(plain, "TRY_AGAIN_AFTER_S", 0)
    with house.engine.connect() as slow:
        slow.exec_driver_sql("BEGIN; LOCK TABLE prediction_log IN ROW EXCLUSIVE MODE")
        done = house.flask.invoke(args=["lifecycle", "retain"])
        slow.exec_driver_sql("ROLLBACK")
    assert (done.exit_code, "a session that writes to prediction_log" in done.output) == (1, True)


def test_retention_waits_for_as_long_as_postgresql_lets_an_autovacuum_hold_up_others(house: House) -> None:
    if house.server.engine != "plain" or not house.server.concurrent:
        pytest.skip("on TimescaleDB a procedure of the migrations moves the edge, and on Citus nodes wait, too")
    with (
        house.engine.connect() as vacuum,
        house.engine.connect() as watcher,
        pytest.MonkeyPatch.context() as changes,
        ThreadPoolExecutor() as threads,
    ):
        changes.setattr(plain, "TRY_AGAIN_AFTER_S", 0)
        vacuum.exec_driver_sql("BEGIN; LOCK TABLE prediction_log IN SHARE UPDATE EXCLUSIVE MODE")
        try:
            retention = threads.submit(house.run, "lifecycle", "retain")
            while not watcher.exec_driver_sql(WAITS_LONG_FOR_LOG).scalar():
                assert not retention.done(), retention.result()
                time.sleep(0.01)
        finally:
            vacuum.exec_driver_sql("ROLLBACK")
        retention.result()


def test_what_needs_no_lock_is_retained_though_the_log_is_held(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    if house.server.engine != "plain" or not house.server.concurrent:
        pytest.skip("on TimescaleDB a procedure of the migrations moves the edge, and on Citus nodes wait, too")
    monkeypatch.setattr(plain, "MAX_TURNS", 2)
    monkeypatch.setattr(plain, "TRY_AGAIN_AFTER_S", 0)
    count = "SELECT count(*) FROM prediction_stats_minute WHERE model_name = 'left over'"
    with house.engine.connect() as vacuum:
        vacuum.exec_driver_sql(LEFT_OVER_MINUTE)
        vacuum.exec_driver_sql("BEGIN; LOCK TABLE prediction_log IN SHARE UPDATE EXCLUSIVE MODE")
        done = house.flask.invoke(args=["lifecycle", "retain"])
        vacuum.exec_driver_sql("ROLLBACK")
        assert vacuum.exec_driver_sql(count).scalar() == 0
    assert (done.exit_code, "vacuums it, and does not end" in done.output) == (1, True)


def test_no_edge_moves_back_nor_past_that_of_a_finer_level(house: House) -> None:
    database = Database(house.engine.url.render_as_string(hide_password=False), pool_size=1)
    ((raw_from,),) = database.rows("SELECT raw_from FROM prediction_stats_state")
    maintenance(database).retain(LifeCycle({"raw": 15 * DAY, "minute": 5 * DAY}, columnstore_after=DAY))
    assert database.rows("SELECT raw_from, minute_from FROM prediction_stats_state") == [(raw_from, raw_from)]
    database.engine.dispose()
