"""Each provider that can be had on this machine serves TimescaleDB with its Community features."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from . import PROVIDERS, Provider, environment, native, reasons, timescale_provider, wasm

OBTAINABLE = [provider for provider in PROVIDERS if provider.why_not() is None]


@pytest.fixture(scope="module", params=OBTAINABLE, ids=lambda provider: provider.name)
def provider(request: pytest.FixtureRequest) -> Provider:
    chosen: Provider = request.param
    return chosen


@pytest.fixture(scope="module")
def url(provider: Provider) -> Iterator[str]:
    with provider.start() as url:
        yield url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url, pool_pre_ping=True, pool_size=5)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def wasm_url() -> Iterator[str]:
    reason = wasm.why_not()
    if reason:
        pytest.skip(reason)
    with wasm.start(timeout_s=1) as url:
        yield url


def test_the_chosen_provider_is_the_first_that_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_PROVIDER", raising=False)
    assert timescale_provider() == (OBTAINABLE[0] if OBTAINABLE else None)
    assert len(reasons()) == (PROVIDERS.index(OBTAINABLE[0]) if OBTAINABLE else len(PROVIDERS))


def test_the_community_features_are_there(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
        assert connection.scalar(text("SHOW timescaledb.license")) == "timescale"
        connection.execute(text("CREATE TABLE reading (at timestamptz NOT NULL, value double precision)"))
        connection.execute(text("SELECT create_hypertable('reading', by_range('at', INTERVAL '1 day'))"))
        connection.execute(text("ALTER TABLE reading SET (timescaledb.enable_columnstore)"))
        connection.execute(text("INSERT INTO reading VALUES ('2024-01-01Z', 1), ('2024-01-02Z', 2)"))
        connection.execute(text("SELECT compress_chunk(chunk) FROM show_chunks('reading') AS chunk"))
        assert connection.scalar(text("SELECT sum(value) FROM reading")) == 3


def test_a_pool_used_by_many_threads_loses_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE tally (n integer)"))

    def add_ten() -> None:
        for n in range(10):
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO tally VALUES (:n)"), {"n": n})

    threads = [threading.Thread(target=add_ten) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tally")) == 50


def test_a_failed_statement_costs_its_savepoint_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (n integer)"))
        connection.execute(text("INSERT INTO kept VALUES (1)"))
        with pytest.raises(DBAPIError, match="division by zero"), connection.begin_nested():
            connection.execute(text("INSERT INTO kept VALUES (1 / 0)"))
        connection.execute(text("INSERT INTO kept VALUES (2)"))
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT n FROM kept ORDER BY n"))) == [1, 2]


def test_what_a_connection_sets_is_its_own(url: str) -> None:
    first = create_engine(url, connect_args={"options": "-c statement_timeout=7s -c search_path=pg_catalog"})
    second = create_engine(url)
    with first.connect() as one, second.connect() as two:
        assert one.scalar(text("SHOW statement_timeout")) == "7s"
        one.execute(text("SET lock_timeout = '3s'"))
        one.commit()
        assert two.scalar(text("SHOW statement_timeout")) == two.scalar(text("SHOW lock_timeout")) == "0"
        two.commit()
        assert one.scalar(text("SHOW lock_timeout")) == "3s"
        one.execute(text("RESET ALL"))
        one.commit()
        assert one.scalar(text("SHOW search_path")) == "pg_catalog"
        assert one.scalar(text("SHOW lock_timeout")) == "0"
    first.dispose()
    second.dispose()


def test_a_connection_that_breaks_off_leaves_nothing_open(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE half (n integer)"))
    broken = engine.raw_connection()
    broken.cursor().execute("INSERT INTO half VALUES (1); CREATE TEMP TABLE scrap (n integer)")
    assert broken.driver_connection
    with socket.socket(fileno=os.dup(broken.driver_connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    broken.invalidate()
    with engine.connect() as other:
        assert other.scalar(text("SELECT count(*) FROM half")) == 0
        assert other.scalar(text("SELECT to_regclass('pg_temp.scrap')")) is None


def test_isolation_levels_can_be_asked_for(engine: Engine) -> None:
    for level in ("SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            expected = "read committed" if level == "AUTOCOMMIT" else level.lower()
            assert connection.scalar(text("SHOW transaction_isolation")) == expected


def test_long_statements_and_long_answers_arrive_whole(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT length(:value)"), {"value": "é" * 1_000_000}) == 1_000_000
        assert len(connection.scalars(text("SELECT repeat('x', 1000) FROM generate_series(1, 3000)")).all()) == 3000


def test_background_jobs_run_if_the_provider_says_so(provider: Provider, engine: Engine) -> None:
    if not provider.background_jobs:
        pytest.skip(f"{provider.name} runs no background jobs")
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
        connection.execute(text("CREATE TABLE ran (n integer)"))
        body = "LANGUAGE sql AS 'INSERT INTO public.ran VALUES (1)'"
        connection.execute(text(f"CREATE PROCEDURE run(job_id integer, config jsonb) {body}"))
        connection.execute(text("SELECT add_job('run', INTERVAL '1 second')"))
    until = time.monotonic() + 60
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(text("SELECT count(*) FROM ran")):
            assert time.monotonic() < until, "the job never ran"
            time.sleep(0.2)


def test_the_environments_server_gets_a_database_of_our_own_and_loses_it(
    provider: Provider, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not provider.concurrent:
        pytest.skip(f"{provider.name} has one database")
    monkeypatch.setenv("TEST_DATABASE_URL", url)
    with environment.start() as own:
        name = make_url(own).database
        assert name and name.startswith("predlog_test_")
        engine = create_engine(own)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT current_database()")) == name
        engine.dispose()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert not connection.scalar(text("SELECT count(*) FROM pg_database WHERE datname = :name"), {"name": name})
    engine.dispose()


@pytest.mark.parametrize("name", ["native", "wasm"])
def test_a_killed_test_run_leaves_no_server(name: str) -> None:
    reason = {"native": native, "wasm": wasm}[name].why_not()
    if reason:
        pytest.skip(reason)
    script = f"""
import time
from support.databases import {name}
with {name}.start() as url:
    print(url, flush=True)
    time.sleep(99)
"""
    folder = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        engine = create_engine(run.stdout.readline().strip(), poolclass=NullPool)
        engine.connect().close()
        run.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    with pytest.raises(OperationalError):
        while time.monotonic() < until:
            engine.connect().close()
            time.sleep(0.1)


def test_the_wasm_server_refuses_copy_and_lives_on(wasm_url: str) -> None:
    engine = create_engine(wasm_url)
    with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="COPY FROM STDIN does not work"):
            connection.execute(text("COPY pg_class FROM STDIN"))
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_a_wasm_client_that_waits_for_the_session_in_vain_is_told_so(wasm_url: str) -> None:
    engine = create_engine(wasm_url)
    with engine.connect() as owner, engine.connect() as other:
        owner.execute(text("SELECT 1"))
        with pytest.raises(OperationalError, match="in the transaction of another client"):
            other.execute(text("SELECT 1"))
        owner.rollback()
        other.rollback()
        assert other.scalar(text("SELECT 2")) == 2
    engine.dispose()
