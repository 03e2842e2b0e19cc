"""Questions go to a streaming replica while it keeps up, and to the primary while it does not: two real servers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import Connection

from app.application.replica_routing import Reader, Readers
from app.application.statistics import Question, Statistics
from app.domain.errors import StorageUnavailable
from app.domain.instants import TimeRange
from app.domain.statistics import Selection
from app.infrastructure.maintenance import engines
from app.infrastructure.postgres.database import Database
from app.infrastructure.replica import StreamingReplica
from app.infrastructure.segment_memory import segment_memory
from app.infrastructure.statistics_store import PostgresStatisticsStore
from app.presentation.services import EXTENSION
from conftest import Server, make_app
from support.capture import statements
from support.databases import native
from support.replication import TIMEOUT, PostgresServer, primary_and_replica
from support.scratch import url_where_nobody_listens

QUESTIONS = [
    "/api/v1/stats",
    "/api/v1/stats/timeseries",
    "/api/v1/stats/compare?version_a=1&version_b=2",
    "/api/v1/models",
    "/api/v1/predictions",
]
READS_CONFLICT = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%%FROM conflict%%'"
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %(position)s::pg_lsn"


@dataclass(frozen=True)
class Pair:
    """A migrated primary and its replica, and a way into each past the service."""

    engine: str
    primary: PostgresServer
    replica: PostgresServer
    on_primary: Database
    on_replica: Database

    def catch_up(self) -> None:
        """Wait until the replica has all that is written."""
        ((position,),) = self.on_primary.rows("SELECT pg_current_wal_flush_lsn()::text")
        eventually(lambda: self.on_replica.read(REPLAYED, {"position": position}) == [(True,)])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """During the block the replica receives commits without replaying them."""
        self.catch_up()
        self.on_replica.read("SELECT pg_wal_replay_pause()")
        eventually(lambda: self.on_replica.rows("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
        try:
            yield
        finally:
            eventually(self._resumes)

    def _resumes(self) -> bool:
        """Resume replay. PostgreSQL may cancel this statement, whose snapshot is in the way of the replay."""
        with suppress(StorageUnavailable):
            self.on_replica.rows("SELECT pg_wal_replay_resume()")
        with suppress(StorageUnavailable):
            return self.on_replica.rows("SELECT pg_get_wal_replay_pause_state()") == [("not paused",)]
        return False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The replica is stopped."""
        self.replica.stop()
        try:
            yield
        finally:
            self.replica.start()


@pytest.fixture(scope="module", params=["plain", "timescale"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    if request.param == "timescale" and native.why_not():
        pytest.skip(f"no TimescaleDB that can have a replica: {native.why_not()}")
    with primary_and_replica(request.param) as (primary, replica):
        with make_app(primary.url).app_context():
            upgrade()
        pair = Pair(request.param, primary, replica, Database(primary.url), Database(replica.url))
        pair.catch_up()
        yield pair
        pair.on_primary.engine.dispose()
        pair.on_replica.engine.dispose()


@pytest.fixture
def app(pair: Pair) -> Iterator[Flask]:
    """A service of the pair that knows its replica already."""
    pair.catch_up()
    app = make_app(pair.primary.url, database_read_url=pair.replica.url, max_replica_lag_s=3600.0)
    eventually(lambda: state_of(app).keeps_up())
    yield app
    dispose(app)


def readers_of(app: Flask) -> Readers:
    readers: Readers = app.extensions[EXTENSION].readers
    return readers


def state_of(app: Flask) -> StreamingReplica:
    state = readers_of(app)._state
    assert isinstance(state, StreamingReplica)
    return state


def dispose(app: Flask) -> None:
    state_of(app)._replica.engine.dispose()
    state_of(app)._primary.engine.dispose()


def eventually(holds: Callable[[], Any]) -> None:
    until = time.monotonic() + TIMEOUT
    while True:
        with suppress(StorageUnavailable):  # a replica cancels what is in the way of its replay
            if holds():
                return
        assert time.monotonic() < until, "it has not come about"
        time.sleep(0.05)


def log(client: FlaskClient, model: str, **fields: Any) -> int:
    body = {"model_name": model, "duration_ms": 1, "was_successful": True, **fields}
    response = client.post("/api/v1/predict-log", json=body)
    assert response.status_code == 200, response.text
    return int(response.json["id"])


def stats(client: FlaskClient, model: str) -> tuple[int, float | None]:
    """How many predictions there were, and the lag of the replica that says so."""
    response = client.get("/api/v1/stats", query_string={"model_name": model})
    assert response.status_code == 200, response.text
    return response.json["total_requests"], response.json["freshness"]["replica_lag_s"]


@contextmanager
def ports() -> Iterator[set[int | None]]:
    """The servers that statements about predictions are sent to meanwhile."""
    seen: set[int | None] = set()
    with statements() as sent:
        yield seen
    seen |= {statement.engine.url.port for statement in sent if "prediction_" in statement.text}


@pytest.mark.parametrize("path", QUESTIONS)
def test_questions_about_many_predictions_go_to_the_replica_alone(
    pair: Pair, app: Flask, model: str, path: str
) -> None:
    client = app.test_client()
    for version in ("1", "2"):
        log(client, model, model_version=version)
    pair.catch_up()
    with ports() as seen:
        response = client.get(path, query_string=None if "?" in path else {"model_name": model})
    assert response.status_code == 200, response.text
    assert seen == {pair.replica.port}


def test_whatever_needs_the_newest_goes_to_the_primary_alone(pair: Pair, app: Flask, model: str) -> None:
    client = app.test_client()
    with ports() as seen:
        id = log(client, model)
        client.post("/api/v1/predict-logs", json=[{"model_name": model, "duration_ms": 1, "was_successful": True}])
        assert client.get(f"/api/v1/predictions/{id}").status_code == 200
        assert client.delete(f"/api/v1/predictions/{id}").status_code == 200
        assert client.get("/ready").status_code == 200
    assert seen == {pair.primary.port}


def test_each_kind_of_answer_says_how_far_behind_it_may_be(pair: Pair, app: Flask) -> None:
    client = app.test_client()
    answers = [client.get(path).json for path in QUESTIONS[:3]]
    lags = [
        part["freshness"]["replica_lag_s"]
        for answer in answers
        for part in (answer, *map(answer.get, "ab"))
        if part and "freshness" in part
    ]
    assert len(lags) == 4
    assert all(0 <= lag < TIMEOUT for lag in lags), lags


def test_a_prediction_is_found_by_its_id_at_once_and_counted_when_the_replica_has_it(
    pair: Pair, app: Flask, model: str
) -> None:
    client = app.test_client()
    with pair.paused():
        id = log(client, model)
        assert client.get(f"/api/v1/predictions/{id}").status_code == 200
        total, lag = stats(client, model)
        assert (total, lag is not None) == (0, True)
    eventually(lambda: stats(client, model)[0] == 1)


def test_the_lag_is_the_age_of_commits_that_are_not_replayed(pair: Pair, app: Flask, model: str) -> None:
    client = app.test_client()
    with pair.paused():
        began = time.monotonic()
        log(client, model)
        time.sleep(2.5)
        lag = stats(client, model)[1]
        assert lag is not None
        assert 1.0 < lag < time.monotonic() - began + 30
    eventually(lambda: (stats(client, model)[1] or 0) < 2)


def _is_lag_without_writes_less_than_its_age(pair: Pair, state: StreamingReplica, conninfo: str) -> bool:
    """End the stream and look; begin again if the primary's own processes have written meanwhile."""
    set_conninfo(pair, conninfo)
    pair.catch_up()
    set_conninfo(pair, "")
    eventually(lambda: pair.on_replica.rows("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)])
    time.sleep(2.5)
    assert state.keeps_up()
    lag = state.lag_s()
    age = pair.on_replica.rows("SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8")
    written = pair.on_primary.rows("SELECT pg_current_wal_insert_lsn()::text")
    if written != pair.on_replica.rows("SELECT pg_last_wal_replay_lsn()::text"):
        return False
    assert 0 <= lag < age[0][0] - 1
    return True


def test_there_is_no_lag_while_nothing_is_written_even_if_the_stream_has_ended(pair: Pair) -> None:
    """The last commit grows old, and the replica is still up to date: by its age alone it would be given up."""
    if pair.engine == "timescale":
        pytest.skip("its jobs write every few seconds")
    state = StreamingReplica(pair.on_primary, pair.on_replica, 3600)
    ((conninfo,),) = pair.on_replica.rows("SELECT current_setting('primary_conninfo')")
    try:
        eventually(lambda: _is_lag_without_writes_less_than_its_age(pair, state, conninfo))
        pair.on_primary.rows("SELECT pg_logical_emit_message(true, 'test', 'something is written')")
        time.sleep(2.5)
        state.keeps_up()
        assert state.lag_s() > 1, "of which the replica hears nothing"
    finally:
        set_conninfo(pair, conninfo)
    pair.catch_up()


def set_conninfo(pair: Pair, conninfo: str) -> None:
    with pair.on_replica.connection() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET primary_conninfo = %(conninfo)s", {"conninfo": conninfo})
        connection.exec_driver_sql("SELECT pg_reload_conf()")


def test_too_far_behind_the_primary_answers_until_the_replica_has_caught_up(pair: Pair, app: Flask, model: str) -> None:
    strict = make_app(pair.primary.url, database_read_url=pair.replica.url, max_replica_lag_s=1.0)
    client = strict.test_client()
    with pair.paused():
        log(client, model)
        eventually(lambda: stats(client, model) == (1, None))
        log(client, model)
        # A check that takes less time than the one before finds a smaller lag, once more below the bound perhaps.
        eventually(lambda: stats(client, model) == (2, None))
    eventually(lambda: stats(client, model)[1] is not None)
    pair.catch_up()
    assert stats(client, model)[0] == 2
    dispose(strict)


def test_a_replica_that_is_stopped_is_not_missed_and_asked_again_when_it_is_back(
    pair: Pair, app: Flask, model: str
) -> None:
    client = app.test_client()
    log(client, model)
    pair.catch_up()
    assert stats(client, model)[1] is not None
    with pair.alone():
        assert stats(client, model) == (1, None), "at the first try"
        log(client, model)
        assert stats(client, model) == (2, None)
        assert all(client.get(path).status_code == 200 for path in QUESTIONS)
        assert client.get("/ready").status_code == 200
    eventually(lambda: stats(client, model)[1] is not None)
    pair.catch_up()
    assert stats(client, model)[0] == 2


def test_a_replica_that_takes_no_connections_yet_is_not_asked(pair: Pair, model: str) -> None:
    pair.replica.stop()
    pair.replica.start(wait=False, hot_standby="off")
    try:
        app = make_app(pair.primary.url, database_read_url=pair.replica.url)
        client = app.test_client()
        log(client, model)
        assert stats(client, model) == (1, None)
        dispose(app)
    finally:
        pair.replica.stop()
        pair.replica.start()


def test_what_the_replica_cancels_for_the_sake_of_replay_is_answered_by_the_primary(pair: Pair, app: Flask) -> None:
    pair.on_primary.count("CREATE TABLE conflict AS SELECT 42 AS answer", {})
    pair.catch_up()
    codes = []

    def question(reader: Reader) -> Any:
        if reader is not readers_of(app)._replica:
            return "the primary"
        try:
            return state_of(app)._replica.rows("SELECT answer, pg_sleep(90) FROM conflict")
        except StorageUnavailable as error:
            codes.append(cast(Any, error.__cause__).orig.pgcode)
            raise

    def drop_what_is_being_read() -> None:
        eventually(lambda: codes or pair.on_replica.rows(READS_CONFLICT))
        pair.on_primary.count("DROP TABLE conflict", {})

    drop = threading.Thread(target=drop_what_is_being_read)
    drop.start()
    assert readers_of(app).ask(question) == "the primary"
    drop.join()
    assert codes == ["40001"]
    assert state_of(app).keeps_up(), "it is still there"


def test_a_replica_that_was_never_there_costs_nobody_an_error(pair: Pair, model: str) -> None:
    app = make_app(pair.primary.url, database_read_url=url_where_nobody_listens())
    client = app.test_client()
    log(client, model)
    assert stats(client, model) == (1, None)
    dispose(app)


def test_a_server_that_is_no_replica_is_not_asked(pair: Pair, model: str) -> None:
    app = make_app(pair.primary.url, database_read_url=pair.primary.url)
    client = app.test_client()
    log(client, model)
    assert stats(client, model) == (1, None)
    dispose(app)


def test_a_replica_of_another_database_is_not_asked(pair: Pair, servers: Callable[[str], Server]) -> None:
    other = Database(servers("plain").url)
    assert not StreamingReplica(other, pair.on_replica, 3600).keeps_up()
    assert StreamingReplica(pair.on_primary, pair.on_replica, 3600).keeps_up()
    other.engine.dispose()


def test_what_was_read_on_one_server_is_not_taken_for_true_on_the_other(pair: Pair, app: Flask, model: str) -> None:
    """The same old hours, asked of both by turns, while they change on the primary and the replica does not move."""
    client = app.test_client()
    at = datetime.now(timezone.utc).replace(minute=30, second=0, microsecond=0) - timedelta(days=3)
    log(client, model, timestamp=at.isoformat())
    refresh(pair)
    pair.catch_up()
    assert stats(client, model)[0] == 1
    with pair.paused():
        log(client, model, timestamp=at.isoformat())
        refresh(pair)
        on_primary = readers_of(app)._primary
        question = Question(Selection((model,)), TimeRange(at - timedelta(days=5), at + timedelta(days=2)))
        for _ in range(3):
            assert on_primary.statistics.ask(question).total.total == 2
            assert readers_of(app).ask(lambda reader: reader.statistics.ask(question)).total.total == 1
    pair.catch_up()
    assert readers_of(app).ask(lambda reader: reader.statistics.ask(question)).total.total == 2


def refresh(pair: Pair) -> None:
    for _ in engines.maintenance(pair.on_primary).refresh(timedelta(days=1)):
        pass


SCAN = """
SELECT count(*), count(*) FILTER (WHERE was_successful), min(duration_ms), max(duration_ms),
       coalesce(sum((duration_ms * 1e6)::bigint), 0)
FROM   prediction_log WHERE model_name = %(model)s AND timestamp >= %(start)s AND timestamp < %(end)s
"""
INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
SELECT now() - random() * %(age)s * INTERVAL '1 hour', %(model)s, round((random() * 1000)::numeric), random() < 0.9
FROM   generate_series(1, %(predictions)s)
"""
DELETE = """
DELETE FROM prediction_log WHERE (id, timestamp) IN
       (SELECT id, timestamp FROM prediction_log WHERE model_name = %(model)s ORDER BY random() LIMIT 5)
"""


class Snapshot:
    """Reads on the connection that is in a snapshot just now."""

    connection: Connection

    def run(self, statement: str, values: dict[str, Any]) -> list[Any]:
        return list(self.connection.exec_driver_sql(statement, values))


def log_of(pair: Pair) -> str:
    return pair.replica.folder.with_suffix(".log").read_text()


def test_an_answer_of_the_replica_equals_a_full_scan_in_the_same_snapshot(pair: Pair, model: str) -> None:
    """While rows come, come late and go on the primary, and the aggregates follow."""
    choose = random.Random(8)
    stop, failures = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            while not stop.is_set():
                values = {"model": model, "age": choose.choice([0.01, 3, 80]), "predictions": choose.randint(1, 40)}
                pair.on_primary.count(INSERT, values)
                if choose.random() < 0.3:
                    pair.on_primary.count(DELETE, {"model": model})
                if choose.random() < 0.2:
                    refresh(pair)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    now, totals, cancelled = Snapshot(), set[int](), 0
    statistics = Statistics(PostgresStatisticsStore(now.run), segment_memory())
    try:
        until = time.monotonic() + 8
        while time.monotonic() < until or (len(totals) <= 5 and time.monotonic() < until + TIMEOUT):
            end = datetime.now(timezone.utc) + timedelta(hours=1)
            start = end - choose.choice([timedelta(days=5), timedelta(hours=30, seconds=7), timedelta(minutes=90)])
            try:
                with pair.on_replica.snapshot() as connection:
                    now.connection = connection
                    told = statistics.ask(Question(Selection((model,)), TimeRange(start, end))).total
                    scan = connection.exec_driver_sql(SCAN, {"model": model, "start": start, "end": end}).one()
            except StorageUnavailable:  # cancelled for the sake of replay, as it may be
                cancelled += 1
                continue
            assert (told.total, told.successful, told.duration_ms_min, told.duration_ms_max) == tuple(scan[:4])
            assert told.duration_ns_sum == scan[4]
            totals.add(told.total)
    finally:
        stop.set()
        writer.join()
    assert not failures
    assert log_of(pair).count("conflict with recovery") >= cancelled
    assert len(totals) > 5, f"the replica has moved on meanwhile; {cancelled} snapshots were cancelled"
