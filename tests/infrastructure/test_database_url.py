"""The address of a database, written for any driver, leads all of the service to the same place, or is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask_migrate import downgrade, upgrade
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn
from sqlalchemy import create_engine, make_url
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from app.infrastructure.postgres.database import Database
from app.infrastructure.postgres.database_url import DatabaseUrlError, canonical, of_parts
from conftest import Server, make_app
from support.scratch import drop_database, empty_database, url_where_nobody_listens
from support.service import ROOT, Service, running

SECRET = "h4rd-to-guess"


def parameters(url: str) -> dict[str, Any]:
    """What the driver is told by SQLAlchemy."""
    dialect: Any = PGDialect_psycopg2  # which has no types
    found: dict[str, Any] = dialect().create_connect_args(make_url(url))[1]
    return {name: str(value) for name, value in found.items() if (name, value) != ("port", ",")}  # no port of any


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://u:p@h:1/db", {"user": "u", "password": "p", "host": "h", "port": "1", "dbname": "db"}),
        ("postgresql+asyncpg://h/db?ssl=require", {"host": "h", "dbname": "db", "sslmode": "require"}),
        ("postgresql://h/db?ssl=true", {"host": "h", "dbname": "db", "sslmode": "require"}),
        ("postgresql://h/db?ssl=false", {"host": "h", "dbname": "db", "sslmode": "disable"}),
        ("postgresql://h/db?ssl=verify-full&sslrootcert=system",
         {"host": "h", "dbname": "db", "sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgresql://h/db?schema=app", {"host": "h", "dbname": "db", "options": '-csearch_path="app"'}),
        ("jdbc:postgresql://h:5432/db?user=u&password=p%26%2B&currentSchema=app,public&ApplicationName=x",
         {"host": "h", "port": "5432", "dbname": "db", "user": "u", "password": "p&+", "application_name": "x",
          "options": '-csearch_path="app","public"'}),
        ("postgresql://h/db?pgbouncer=true", {"host": "h", "dbname": "db"}),
        ("postgresql+asyncpg://h/db?prepared_statement_cache_size=0", {"host": "h", "dbname": "db"}),
        ("postgresql://a:5432,b:5433/db?target_session_attrs=primary",
         {"host": "a,b", "port": "5432,5433", "dbname": "db", "target_session_attrs": "primary"}),
        ("postgresql://u:p@a,b/db", {"user": "u", "password": "p", "host": "a,b", "dbname": "db"}),
        ("postgresql://[::1]:1,h:2/db", {"host": "::1,h", "port": "1,2", "dbname": "db"}),
        ("postgresql://a,b/db?port=5433", {"host": "a,b", "port": "5433,5433", "dbname": "db"}),
        ("postgresql+psycopg2://u@/db?host=a:1&host=b:2", {"user": "u", "host": "a,b", "port": "1,2", "dbname": "db"}),
        ("jdbc:postgresql://a,b/db?targetServerType=primary",
         {"host": "a,b", "dbname": "db", "target_session_attrs": "primary"}),
        ("postgresql:///db", {"dbname": "db"}),
        ("postgresql:///db?host=/var/run/postgresql", {"host": "/var/run/postgresql", "dbname": "db"}),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db", {"user": "u", "host": "/var/run/postgresql", "dbname": "db"}),
        ("postgresql://h/my%20db%3F%25%2F%23", {"host": "h", "dbname": "my db?%/#"}),
        ("postgresql://u%40corp:p%40%3A%2F@h/db", {"user": "u@corp", "password": "p@:/", "host": "h", "dbname": "db"}),
        ("postgresql://:p@h/db", {"password": "p", "host": "h", "dbname": "db"}),
        ("postgresql://h/db?connect_timeout=9&keepalives=0",
         {"host": "h", "dbname": "db", "connect_timeout": "9", "keepalives": "0"}),
        ("postgresql://", {}),
    ],
)  # fmt: skip
def test_an_address_for_another_driver_is_read_as_libpq_has_it(text: str, expected: dict[str, str]) -> None:
    assert parameters(canonical(text)) == expected


def test_of_several_servers_the_writable_one_is_wanted_unless_the_address_says_otherwise() -> None:
    several = canonical("postgresql://a,b/db", writes=True)
    assert parameters(several)["target_session_attrs"] == "read-write"
    asked = canonical("postgresql://a,b/db?target_session_attrs=any", writes=True)
    assert parameters(asked)["target_session_attrs"] == "any"
    assert "target_session_attrs" not in parameters(canonical("postgresql://a/db", writes=True))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)


@example("0", ",", ",", "h")
@given(TEXT, TEXT, TEXT, st.sampled_from(["h", "10.0.0.1", "[::1]", "a-b.example.org", "%2Ftmp%2Fx"]))
def test_every_part_may_have_any_character_percent_encoded(user: str, password: str, name: str, host: str) -> None:
    written = [quote(part, safe="") for part in (user, password, name)]
    url = canonical("postgresql://{}:{}@{}:5432/{}".format(*written[:2], host, written[2]))
    found = parameters(url)
    assert (found["user"], found["password"], found["dbname"]) == (user, password, name)
    assert canonical(url) == url
    assert url == of_parts(found)


LIBPQ = [
    "postgresql://u:p@h:1/db?sslmode=require", "postgresql://a:1,b:2/db?target_session_attrs=any",
    "postgresql://%2Ftmp/db", "postgresql:///db?host=/tmp&port=5433", "postgresql://u%25@h/a%20b?application_name=x%20y",
    "postgresql://[::1]/db", "postgresql://h/?dbname=x&options=-c%20geqo%3Doff",
]  # fmt: skip


@pytest.mark.parametrize("text", LIBPQ)
def test_what_libpq_reads_means_the_same(text: str) -> None:
    assert parameters(canonical(text)) == {name: value for name, value in parse_dsn(text).items() if value}


HOSTS = st.lists(st.sampled_from(["h", "10.0.0.1:5432", "[::1]:1"]), min_size=1, max_size=2).map(",".join)
CREDENTIALS = st.sampled_from(["", "u@", "u:@", "u:p@", "u:p:%40@"])
VALUES = st.text("ab@:/?,.=", min_size=1, max_size=8)


@example("", "db.example:5432", "predlog", "svc@tenant", SECRET)
@given(CREDENTIALS, HOSTS, st.text("ab:-", max_size=4), VALUES, VALUES)
def test_options_have_any_character_that_libpq_takes_in_them(
    credentials: str, hosts: str, name: str, user: str, password: str
) -> None:
    text = f"postgresql://{credentials}{hosts}/{name}?user={user}&password={password}"
    try:
        expected = {name: value for name, value in parse_dsn(text).items() if value}
    except ProgrammingError:
        assume(False)  # libpq wants a = in a value encoded
    if expected.get("port") == ",":
        del expected["port"]  # no port of any
    assert parameters(canonical(text)) == expected


@pytest.mark.parametrize("password", ["p?w", "?", "p/w", "a:b?c=d", "1a?"])
def test_a_password_may_have_a_raw_question_mark_or_slash(password: str) -> None:
    assert parameters(canonical(f"postgresql://u:{password}@h:1/d?sslmode=prefer"))["password"] == password


def test_an_at_sign_in_an_option_ends_no_password_if_no_slash_is_before_the_options() -> None:
    expected = {"host": "h", "user": "svc@tenant", "password": SECRET}
    for host, others in (
        ("h", {}), ("h:5432", {"port": "5432"}), ("h:", {}), ("[::1]:5432", {"host": "::1", "port": "5432"}),
        ("a:1,b:2", {"host": "a,b", "port": "1,2"}),
    ):  # fmt: skip
        assert parameters(canonical(f"postgresql://{host}?user=svc@tenant&password={SECRET}")) == expected | others


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("?pgbouncer=maybe", "pgbouncer"),
        ("?connection_limit=5", "connection_limit.*POOL_SIZE"),
        ("?pool_timeout=5", "pool_timeout.*POOL_TIMEOUT_S"),
        ("?conn_max_age=600", "conn_max_age"),
        ("?prepared_statement_cache_size=100", "prepared_statement_cache_size"),
        ("?statement_timeout=5", "statement_timeout.*STATEMENT_TIMEOUT_MS"),
        ("?sslmode=on-tuesdays", "sslmode.*verify-full"),
        ("?ssl=maybe", "ssl .*verify-full"),
        ("?sslcert=/nowhere/client.crt", "sslcert.* no file"),
        ("?schema=", "schema"),
        ('?schema=a";drop', "schema"),
        ("?client_encoding=latin1", "client_encoding.*UTF8"),
        ("?frobnicate=1", "frobnicate"),
        ("?sslmode=require&ssl=true", "ssl twice"),
        ("?sslmode=require&sslmode=require", "sslmode twice"),
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_an_option_that_cannot_be_had_is_refused_by_its_name(scheme: str, text: str, named: str) -> None:
    with pytest.raises(DatabaseUrlError, match=named) as refusal:
        canonical(f"{scheme}://u:{SECRET}@h/db{text}")
    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}@h:port/db", f"postgresql://u:{SECRET}@a:1,b:x/db", f"postgresql://u:{SECRET}@h:0/db",
        f"postgresql://u:{SECRET}@a:b:c/db", f"u:{SECRET}@h/db", f"mysql://u:{SECRET}@h/db", f"{SECRET}://h/db",
        f"postgresql://u:{SECRET}%ff@h/db", f"postgresql://u:{SECRET}%00@h/db", f"postgresql://u:{SECRET}@a,b/d?port=1,2,3",
        f"postgresql://h/db?user=u&password=a&{SECRET}", f"postgresql://h/db?password=a&{SECRET}&sslmode=require",
        f"postgresql://h/db?{SECRET}=1", f"postgresql://u:p/?{SECRET}@h/db", f"postgresql://u:p/?passfile={SECRET}@h/db",
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(DatabaseUrlError) as refusal:
        canonical(text)
    assert SECRET not in str(refusal.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for address in (text, f"postgresql://{text}", f"postgresql://h/db?{text}"):
        try:
            assert parameters(canonical(canonical(address))) == parameters(canonical(address))
        except DatabaseUrlError:
            continue


ODD_NAME = "ödd %20 %(name)s ?&+/'\""


@contextmanager
def odd_database(server: Server) -> Any:
    """The URL, percent-encoded, of an empty database whose name has every character that could be misread."""
    if not server.concurrent:
        pytest.skip("it has one database only")
    address, quoted = make_url(server.url), '"' + ODD_NAME.replace('"', '""').replace("%", "%%") + '"'
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {quoted} TEMPLATE template0", {})
        try:
            user = f"{address.username}:{quote(address.password or '', safe='')}"
            yield f"postgresql://{user}@{address.host}:{address.port}/{quote(ODD_NAME, safe='')}"
        finally:
            drop_database(server.url, quoted)
    engine.dispose()


def test_a_name_of_any_characters_passes_the_start_the_migrations_and_the_service(
    server: Server, public_folder: Path
) -> None:
    with odd_database(server) as url, running(public_folder, DATABASE_URL=url) as service:
        body = {"model_name": "m", "duration_ms": 1, "was_successful": True}
        assert service.request("POST", "/api/v1/predict-log", body)[0] == 200
        assert service.request("GET", "/api/v1/stats")[1]["total_requests"] == 1


def test_a_server_that_is_away_is_passed_over(server: Server) -> None:
    """libpq's form with several hosts, in the service and in the migrations."""
    here, away = make_url(server.url), make_url(url_where_nobody_listens())
    places = f"{away.host}:{away.port},{here.host}:{here.port}"
    url = canonical(f"postgresql://{here.username}:{here.password}@{places}/{here.database}", writes=True)
    app = make_app(url)
    with app.app_context():
        upgrade()
    assert app.test_client().get("/ready").status_code == 200


def test_a_schema_of_its_own_has_all_tables(server: Server) -> None:
    if not server.concurrent:
        pytest.skip("it has one database only")
    with empty_database(server) as url:
        admin = Database(url)
        admin.count("CREATE SCHEMA app", {})
        app = make_app(canonical(f"{url.partition('?')[0]}?schema=app"))
        with app.app_context():
            upgrade()
        client = app.test_client()
        assert client.get("/ready").json == {"status": "ready", "engine": server.engine}
        body = {"model_name": "m", "duration_ms": 1, "was_successful": True}
        assert client.post("/api/v1/predict-log", json=body).status_code == 200
        assert admin.rows("SELECT model_name FROM app.prediction_log") == [("m",)]
        by_default = Database(url).rows("SELECT current_setting('search_path')")[0][0]
        assert ("app" in by_default) == (server.engine == "timescale"), "the jobs come by no address"
        admin.engine.dispose()


def test_a_schema_beside_an_extension_that_is_elsewhere_is_refused_until_both_are_named(
    servers: Callable[[str], Server],
) -> None:
    server = servers("timescale")
    if not server.concurrent:
        pytest.skip("it has one database only")
    with empty_database(server) as url:
        admin = Database(url)
        admin.count("CREATE EXTENSION timescaledb", {})
        admin.count("CREATE SCHEMA app", {})
        admin.engine.dispose()
        with make_app(canonical(f"{url}?schema=app")).app_context(), pytest.raises(SystemExit, match="schema public"):
            upgrade()
        app = make_app(canonical(f"{url}?currentSchema=app,public"))
        with app.app_context():
            upgrade()
        assert app.test_client().get("/ready").status_code == 200


JOBS = """
SELECT proc_schema, proc_name, coalesce(config ->> 'raw', config ->> 'compress_after')
FROM   timescaledb_information.jobs
WHERE  owner::text = current_user AND (proc_schema IN ('a', 'b') OR hypertable_schema IN ('a', 'b'))
ORDER  BY 1, 2
"""


def test_two_predlogs_in_one_database_leave_each_others_jobs_alone(servers: Callable[[str], Server]) -> None:
    server = servers("timescale")
    if not server.concurrent:
        pytest.skip("it has one database only")
    with empty_database(server) as url:
        admin = Database(url)
        admin.count("CREATE EXTENSION timescaledb", {})
        apps = {}
        for name in ("a", "b"):
            admin.count(f"CREATE SCHEMA {name}", {})
            address = canonical(f"{url.partition('?')[0]}?schema={name},public")
            apps[name] = make_app(address, raw_retention=timedelta(days=7), columnstore_after=timedelta(days=3))
            with apps[name].app_context():
                upgrade()
            admin.rows("SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs")
        of_b = [job for job in admin.rows(JOBS) if "b" in job]
        assert of_b
        assert apps["a"].test_cli_runner().invoke(args=["lifecycle", "apply"]).exit_code == 0
        assert ("a", "prediction_stats_job", "168 hours") in admin.rows(JOBS)
        shown = apps["a"].test_cli_runner().invoke(args=["lifecycle", "show"]).output
        assert shown.count("prediction_stats_job") == 1
        with apps["a"].app_context():
            downgrade(revision="3_refresh")
        assert [job for job in admin.rows(JOBS) if "b" in job] == of_b
        admin.engine.dispose()


def test_a_schema_that_does_not_exist_stops_the_migrations_with_a_sentence(servers: Callable[[str], Server]) -> None:
    url = canonical(f"{servers('plain').url.partition('?')[0]}?schema=nowhere")
    with make_app(url).app_context(), pytest.raises(SystemExit, match="CREATE SCHEMA"):
        upgrade()


def test_a_foreign_option_stops_the_start_with_a_sentence(public_folder: Path) -> None:
    service = Service(public_folder, DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1/db?connection_limit=5")
    assert service.process.wait(timeout=120) == 2
    assert service.log.startswith("predlog: DATABASE_URL has an option connection_limit")
    assert service.log.count("\n") == 1
    assert SECRET not in service.log


def test_pghostaddr_leads_nowhere_else(server: Server) -> None:
    """The address of the host in DATABASE_URL, not that in the environment of the service."""
    program = "from app.infrastructure.postgres.database import Database; print(Database({!r}).rows('SELECT 42'))"
    run = subprocess.run(
        [sys.executable, "-c", program.format(server.url)],
        env={**os.environ, "PGHOSTADDR": "127.255.255.254"}, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.stdout.strip() == "[(42,)]", run.stderr
