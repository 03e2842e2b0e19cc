"""Migrations, on both engines and with data: up, down to nothing, up again, and nothing left for autogenerate."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.engine import URL

from app.infrastructure.postgres.schema import MIGRATIONS
from conftest import Server, make_app
from support.databases import native
from support.deadlocks import again_after_deadlocks
from support.scratch import drop_database, empty_database
from support.service import clean_environment

REPOSITORY = Path(__file__).parents[1]
REVISIONS = [each.revision for each in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]
HEAD = REVISIONS[-1]
# The schema that the twelve revisions of Predlog 0.1 made, as SQL: its databases are brought over.
SCHEMA_0_1 = Path(__file__).parent / "support" / "schema_0_1"

# Everything that a person may have made, and all that TimescaleDB keeps a book of; but for Alembic's own table.
OBJECTS = """
SELECT 'relation', c.oid::regclass::text
FROM   pg_class c
JOIN   pg_namespace n ON n.oid = c.relnamespace
WHERE  n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relname !~ '^alembic_version'
UNION ALL
SELECT 'function', p.oid::regprocedure::text
FROM   pg_proc p
WHERE  p.pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', t.tgname FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL
SELECT 'setting', setting FROM pg_db_role_setting, unnest(setconfig) AS setting
"""
BOOKS = """
SELECT format('%%I.%%I', schemaname, tablename)
FROM   pg_tables
WHERE  schemaname IN ('_timescaledb_catalog', '_timescaledb_config')
AND    tablename NOT IN ('metadata', 'telemetry_event')
"""
COMPRESS_ALL = """
SELECT compress_chunk(chunk, true)
FROM   unnest(ARRAY['prediction_log', 'prediction_stats_minute', 'prediction_stats_hour', 'prediction_latency_minute',
                    'prediction_latency_hour', 'prediction_latency_day']) AS relation,
       show_chunks(relation::regclass) AS chunk
"""
IS_REFRESHED = """
SELECT watermark > now() - INTERVAL '5 minutes' AND NOT EXISTS (SELECT FROM prediction_invalid_hour)
FROM   prediction_stats_state
"""
IS_REFRESHED_0_1 = """
SELECT materialized_to > now() - INTERVAL '5 minutes'
       AND NOT EXISTS (SELECT FROM prediction_stats_change WHERE changed_to <= materialized_to)
FROM   prediction_stats_state
"""
LATE = "INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful) VALUES (%(at)s, 'm', 5, true)"


class House:
    """A service on a database of its own."""

    def __init__(self, server: Server, url: str) -> None:
        self.server, self.url = server, url
        self.app: Flask = make_app(url, pool_size=2 if server.concurrent else 1)
        self.engine: Engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
        self.logged = 0

    def upgrade(self, revision: str = "head") -> None:
        with self.app.app_context():
            upgrade(revision=revision)

    def downgrade(self, revision: str = "base") -> None:
        with self.app.app_context():
            downgrade(revision=revision)

    def run(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement, values)
            return list(result.fetchall()) if result.returns_rows else []

    def fill(self) -> None:
        """Log predictions of several days, materialise them, change some of that, and move all to the columnstore."""
        for hours in (1, 30, 31, 70, 100):
            self.log(hours)
        if self.server.engine == "timescale":
            self.refresh()
            self.log(75)
            again_after_deadlocks(lambda: self.run(COMPRESS_ALL))
        self.log(76)

    def refresh(self, is_refreshed: str = IS_REFRESHED) -> None:
        """Run the job until it has refreshed all; called while TimescaleDB runs it, it does nothing."""
        until = time.monotonic() + 120
        while not self.run(is_refreshed)[0][0]:
            assert time.monotonic() < until, "the job does not refresh all"
            self.run("CALL prediction_stats_job(0, '{}')")
            time.sleep(0.05)

    def log(self, hours_ago: float) -> None:
        body = {"model_name": "m", "duration_ms": 5, "was_successful": True}
        timestamp = (datetime.now(timezone.utc) - timedelta(hours=hours_ago)).isoformat()
        response = self.app.test_client().post("/api/v1/predict-log", json={**body, "timestamp": timestamp})
        assert response.status_code == 200, response.text
        self.logged += 1

    def counted(self) -> int:
        response = self.app.test_client().get("/api/v1/stats")
        assert response.status_code == 200, response.text
        return int(response.json["total_requests"])

    def objects(self) -> set[Any]:
        """All that is in the database, and how much TimescaleDB has written down about it."""
        found = {tuple(row) for row in self.run(OBJECTS)}
        if self.server.engine == "timescale":
            found |= {(book, self.run(f"SELECT count(*) FROM {book}")[0][0]) for (book,) in self.run(BOOKS)}
        return found

    def flask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `flask` command as a person does."""
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
            cwd=REPOSITORY, env=clean_environment(DATABASE_URL=self.url), capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def close(self) -> None:
        self.engine.dispose()
        self.app.extensions["predlog"].predictions._store._database.engine.dispose()


@pytest.fixture
def concurrent(server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")


@pytest.fixture
def house(server: Server) -> Iterator[House]:
    """An empty database."""
    with ExitStack() as stack:
        house = House(server, stack.enter_context(empty_database(server)))
        stack.callback(house.close)
        yield house


@pytest.fixture(scope="module")
def at_head(server: Server) -> Iterator[House]:
    """A migrated database with data, which a test leaves migrated."""
    with ExitStack() as stack:
        house = House(server, stack.enter_context(empty_database(server)))
        stack.callback(house.close)
        house.upgrade()
        house.fill()
        yield house


def test_down_to_base_leaves_nothing_behind_and_up_again_works(house: House) -> None:
    if house.server.engine == "timescale":
        house.run("CREATE EXTENSION IF NOT EXISTS timescaledb")  # stays, for it may have been there before
    before = house.objects()
    for _ in range(2):
        house.upgrade()
        assert ("relation", "prediction_log") in house.objects() - before
        house.logged = 0
        house.fill()
        assert house.counted() == house.logged
        house.downgrade()
        after = house.objects()
        assert after == before, f"left: {sorted(after - before)}, missing: {sorted(before - after)}"


def test_upgrading_twice_is_upgrading_once(at_head: House) -> None:
    before = at_head.objects()
    at_head.upgrade()
    # But for chunks, which come and go by TimescaleDB's own jobs.
    assert [each for each in at_head.objects() ^ before if "_timescaledb" not in f"{each}"] == []
    assert at_head.counted() == at_head.logged


@pytest.mark.parametrize("revision", ["3_refresh", "2_aggregates", "1_log"])
def test_statistics_are_exact_after_a_revision_was_taken_back_and_applied_again(
    server: Server, request: pytest.FixtureRequest, revision: str
) -> None:
    if not server.concurrent and revision != "1_log":
        pytest.skip("each needs a server of its own here, which takes long")
    house: House = request.getfixturevalue("house")
    house.upgrade()
    house.fill()
    house.downgrade(revision)
    house.run(LATE, at=datetime.now(timezone.utc) - timedelta(hours=80))
    house.upgrade()
    assert house.run("SELECT count(*) FROM prediction_log") == [(house.logged + 1,)], "no prediction was lost"
    assert house.counted() == house.logged + 1


def test_the_engine_is_chosen_and_named(at_head: House) -> None:
    assert at_head.run("SELECT engine FROM prediction_stats_state") == [(at_head.server.engine,)]
    names = {"prediction_stats_minute", "prediction_stats_hour", "prediction_stats_day", "prediction_latency_hour"}
    names |= {"prediction_log", "prediction_latency_day"}
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = %(name)s ORDER BY 1"
    for name in names:
        assert at_head.run(columns, name=name), name
    stats = ["bucket", "duration_ms_max", "duration_ms_min", "duration_ns_sum", "model_name", "model_version",
             "successful_requests", "total_requests"]  # fmt: skip
    for level in ("minute", "hour", "day"):
        assert [name for (name,) in at_head.run(columns, name=f"prediction_stats_{level}")] == stats


def test_autogenerate_finds_nothing_to_do(at_head: House) -> None:
    checked = at_head.flask("db", "check")
    assert checked.returncode == 0, checked.stderr
    assert "No new upgrade operations detected" in checked.stdout + checked.stderr


def test_a_generated_revision_is_empty(at_head: House, tmp_path: Path) -> None:
    copy = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    made = at_head.flask("db", "revision", "--autogenerate", "-m", "nothing", "-d", str(copy))
    assert made.returncode == 0, made.stderr
    (revision,) = {path.name for path in (copy / "versions").glob("*.py")} - {
        p.name for p in (MIGRATIONS / "versions").glob("*.py")
    }
    text = (copy / "versions" / revision).read_text()
    assert "op." not in text, text
    compile(text, revision, "exec")
    assert f'down_revision = "{HEAD}"' in text.replace("'", '"')


def test_current_and_history_name_the_revisions(at_head: House) -> None:
    current, history = at_head.flask("db", "current"), at_head.flask("db", "history")
    assert current.returncode == history.returncode == 0
    assert f"{HEAD} (head)" in current.stdout
    assert [revision for revision in REVISIONS if revision in history.stdout] == REVISIONS


@pytest.mark.usefixtures("concurrent")
def test_two_upgrades_at_once_both_succeed(house: House) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"],
            cwd=REPOSITORY, env=clean_environment(DATABASE_URL=house.url), stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    assert house.run("SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_a_database_that_is_away_is_said_to_be_so_in_a_sentence() -> None:
    url = "postgresql://nobody:h4rd-to-guess@127.0.0.1:1/nowhere"
    run = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"],
        cwd=REPOSITORY, env=clean_environment(DATABASE_URL=url), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode != 0
    assert "h4rd-to-guess" not in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def engine_after_upgrade(url: str | URL) -> str:
    """Migrate, use the service a little, and say which engine it is on."""
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    app = make_app(text, pool_size=1)
    with app.app_context():
        upgrade()
    client = app.test_client()
    stored = client.post("/api/v1/predict-log", json={"model_name": "m", "duration_ms": 5, "was_successful": True})
    assert stored.status_code == 200, stored.text
    assert client.get("/api/v1/stats").json["total_requests"] == 1
    assert client.delete(f"/api/v1/predictions/{stored.json['id']}").status_code == 200
    assert client.get("/api/v1/stats").json["total_requests"] == 0
    engine = str(client.get("/ready").json["engine"])
    app.extensions["predlog"].predictions._store._database.engine.dispose()
    with app.app_context():
        downgrade(revision="base")
        app.extensions["migrate"].db.engine.dispose()
    return engine


def test_the_apache_build_of_timescaledb_counts_as_plain_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := native.why_not():
        pytest.skip(reason)
    monkeypatch.setitem(native.SETTINGS, "timescaledb.license", "apache")
    with native.start() as url:
        assert engine_after_upgrade(url) == "plain"


def ordinary_role(url: str, *, owns_the_database: bool) -> URL:
    """A role with no more rights than a managed cloud or a careful administrator gives, and a database for it."""
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'")
        connection.exec_driver_sql("CREATE DATABASE ordinary TEMPLATE template0")
        if owns_the_database:
            connection.exec_driver_sql("GRANT ordinary TO CURRENT_USER")
            connection.exec_driver_sql("ALTER DATABASE ordinary OWNER TO ordinary")
    admin.dispose()
    own = make_url(url).set(database="ordinary")
    if not owns_the_database:
        admin = create_engine(own, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("GRANT CREATE, USAGE ON SCHEMA public TO ordinary")
        admin.dispose()
    return own.set(username="ordinary", password="ordinary")


def forget_ordinary_role(url: str) -> None:
    drop_database(url, "ordinary")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS ordinary")
    admin.dispose()


@pytest.mark.parametrize("owns_the_database", [True, False])
def test_a_role_that_is_no_superuser_can_migrate(server: Server, owns_the_database: bool) -> None:
    if not server.concurrent:
        pytest.skip("this TimescaleDB has one database and one role")
    try:
        engine = engine_after_upgrade(ordinary_role(server.url, owns_the_database=owns_the_database))
        # TimescaleDB trusts the owner of a database to create it there; Citus trusts superusers alone.
        assert engine == (server.engine if owns_the_database and server.engine != "citus" else "plain")
    finally:
        forget_ordinary_role(server.url)


def test_a_database_that_cannot_keep_every_text_is_refused_and_left_as_it_is(server: Server, concurrent: None) -> None:
    with empty_database(server, "ENCODING 'LATIN1' LOCALE 'C'") as url, closing(House(server, url)) as house:
        before = house.objects()
        migrated = house.flask("db", "upgrade")
        assert migrated.returncode == 1
        assert "encoded as LATIN1" in migrated.stderr
        assert "Traceback" not in migrated.stderr
        assert house.objects() == before


NAMED = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
VALUES (now() - %(hours)s * INTERVAL '1 hour', %(model)s, %(version)s, 5, true)
"""


def restore_0_1(house: House) -> None:
    """Make the schema of Predlog 0.1, and log, materialise, change and drop something in it."""
    if house.server.engine == "timescale":
        house.run("CREATE EXTENSION IF NOT EXISTS timescaledb")
    with house.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute((SCHEMA_0_1 / f"{house.server.engine}.sql").read_text())
    for number, hours in enumerate((0, 0.1, 1, 5, 30, 70, 1000)):
        house.run(NAMED, hours=hours, model=f"m{number}", version="")
    if house.server.engine == "timescale":
        house.refresh(IS_REFRESHED_0_1)
        again_after_deadlocks(lambda: house.run(COMPRESS_ALL))
    for version, hours in (("late", 40), ("new", 0)):
        house.run(NAMED, hours=hours, model="m1", version=version)
    house.run("DELETE FROM prediction_log WHERE model_name = 'm5'")
    for count in (3, 10**12, 2**63 - 1):
        house.run(DROPPED_0_1, count=count, id=str(UUID(int=count)))
    house.run("INSERT INTO api_key (name, scope, hash) VALUES ('one', 'write', sha256('secret'))")


DROPPED_0_1 = """
INSERT INTO prediction_loss (id, timestamp, model_name, reason, count)
VALUES (%(id)s, now() - INTERVAL '2 hours', 'm1', 'queue_full', %(count)s)
"""


def test_a_database_of_0_1_is_brought_over_without_losing_a_row(house: House) -> None:
    restore_0_1(house)
    rows = "SELECT to_json(p)::text FROM prediction_log p ORDER BY 1"
    before = house.run(rows)
    house.upgrade()
    assert house.run(rows) == before
    client = house.app.test_client()
    assert house.counted() == len(before) == 8
    for model in {json.loads(row)["model_name"] for (row,) in before}:
        counted = client.get("/api/v1/stats", query_string={"model_name": model}).json["total_requests"]
        assert counted == sum(json.loads(row)["model_name"] == model for (row,) in before), model
    logged = house.run("SELECT DISTINCT model_name, model_version FROM prediction_log")
    assert set(map(tuple, house.run("SELECT * FROM prediction_model"))) >= set(map(tuple, logged))
    for level in ("minute", "hour", "day"):
        dropped = house.run(f"SELECT sum(dropped) FROM prediction_dropped_{level}")
        assert dropped == [(3 + 10**12 + 2**63 - 1,)], level
    assert house.run("SELECT name, scope, revoked_at FROM api_key") == [("one", "write", None)]
    house.log(2)
    house.log(50)
    assert house.counted() == 10


def test_history_of_0_1_whose_rows_retention_has_dropped_is_brought_over(house: House) -> None:
    restore_0_1(house)
    start = datetime.now(timezone.utc).replace(minute=10, second=0, microsecond=0) - timedelta(days=50)
    predictions = [(20, 1.5, True), (80, 3000.25, False), (140, 0.125, True), (7000, 40, True), (7001, 2e12, True)]
    for seconds, duration, successful in predictions:
        at = start + timedelta(seconds=seconds)
        house.run(CALL_0_1, at=at, duration=duration, successful=successful)
    if house.server.engine == "timescale":
        house.refresh(IS_REFRESHED_0_1)
    edge = start.replace(hour=0) + timedelta(days=2)
    house.run("UPDATE prediction_stats_state SET raw_from = %(edge)s, generation = generation + 1", edge=edge)
    dropped = "DELETE FROM prediction_log WHERE timestamp < %(edge)s"
    house.run(WITHOUT_TRIGGERS[house.server.engine].format(dropped), edge=edge)
    house.upgrade()
    for level, to in (("minute", 2), ("hour", 60), ("day", 2 * 24 * 60)):
        expected = [prediction for prediction in predictions if prediction[0] < 60 * to]
        query = {
            "model_name": "kept",
            "from": (start if level == "minute" else start.replace(minute=0)).isoformat(),
            "to": (start.replace(minute=0, hour=0) + timedelta(days=2) if level == "day" else
                   start.replace(minute=0) + timedelta(hours=1) if level == "hour" else
                   start + timedelta(minutes=to)).isoformat(),
            "percentiles": "0,50,100",
        }  # fmt: skip
        answer = house.app.test_client().get("/api/v1/stats", query_string=query).json
        durations = sorted(duration for _, duration, _ in expected)
        assert answer["total_requests"] == len(expected), level
        assert answer["successful_requests"] == sum(successful for *_, successful in expected), level
        assert answer["average_duration_ms"] == pytest.approx(sum(durations) / len(durations)), level
        assert (answer["percentiles"]["0"], answer["percentiles"]["100"]) == (durations[0], durations[-1]), level


WITHOUT_TRIGGERS = {
    "plain": "ALTER TABLE prediction_log DISABLE TRIGGER USER; {}; ALTER TABLE prediction_log ENABLE TRIGGER USER",
    # Some versions of TimescaleDB refuse DISABLE TRIGGER if there is a columnstore.
    "timescale": "SET session_replication_role = replica; {}; RESET session_replication_role",
}
CALL_0_1 = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
VALUES (%(at)s, 'kept', %(duration)s, %(successful)s)
"""


def test_a_database_of_0_1_has_the_schema_of_a_new_one_once_it_is_brought_over(
    house: House, at_head: House, server: Server
) -> None:
    if not server.concurrent:
        pytest.skip("one database at a time")
    restore_0_1(house)
    house.upgrade()
    for question in SCHEMA:
        assert house.run(question) == at_head.run(question), question


# Everything about our tables and routines except the place of their rows.
SCHEMA = (
    """SELECT p.oid::regprocedure::text, prosrc, prosecdef, proconfig FROM pg_proc p
       WHERE  pronamespace = current_schema()::regnamespace AND (proname ~ '^prediction' OR proname ~ '^latency')
       ORDER  BY 1""",
    """SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
       FROM   information_schema.columns WHERE table_schema = current_schema() AND table_name ~ '^(prediction|api_key)'
       ORDER  BY 1, 2""",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE  connamespace = current_schema()::regnamespace ORDER BY 1, 2""",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1",
    """SELECT tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
       WHERE  NOT tgisinternal AND relnamespace = current_schema()::regnamespace AND relname ~ '^prediction'
       ORDER  BY 1""",
)


def test_a_database_of_an_earlier_revision_of_0_1_is_refused_and_left_as_it_is(house: House) -> None:
    restore_0_1(house)
    house.run("UPDATE alembic_version SET version_num = '0007'")
    before = house.objects()
    with pytest.raises(SystemExit, match=r"revision 0007 of Predlog 0\.1.*brings it to 0012"):
        house.upgrade()
    # But for chunks, which come and go by TimescaleDB's own jobs.
    changed = house.objects() ^ before
    assert {each for each in changed if not re.search("_timescaledb|alembic_version_lock", f"{each}")} == set()
