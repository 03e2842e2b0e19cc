"""The service checks and prints at its start who may send requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.application.keys import Keys
from app.domain.keys import Scope
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.postgres.database import Database
from app.server.startup_check import check
from config import ConfigurationError
from conftest import Server, make_config
from support.scratch import url_where_nobody_listens
from support.service import Service

NOWHERE = url_where_nobody_listens()


@pytest.fixture
def keys(database: Engine) -> Iterator[Keys]:
    """No keys yet, and none left."""
    storage = Database(database.url.render_as_string(hide_password=False), pool_size=1)
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")
        yield Keys(PostgresKeyStore(storage))
        connection.exec_driver_sql("DELETE FROM api_key")
    storage.engine.dispose()


def start(url: str, auth: str = "keys", host: str = "127.0.0.1", **settings: Any) -> None:
    check(make_config(url, auth=auth, host=host, **settings), url)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_without_a_key_the_service_serves_loopback_and_says_so(
    keys: Keys, server: Server, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start(server.url, host=host)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No key exists: only this machine may call." in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "predlog.example.org", ""])
def test_without_a_key_it_starts_on_no_other_address(keys: Keys, server: Server, host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no key exists.*keys create.*AUTH=none"):
        start(server.url, host=host)


def test_with_a_key_it_starts_anywhere_and_says_nothing(
    keys: Keys, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.create("first", Scope.READ)
    start(server.url, host="0.0.0.0")
    assert capsys.readouterr().err == ""


def test_with_revoked_keys_only_it_says_that_nobody_may_call(
    keys: Keys, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.revoke(keys.create("first", Scope.READ)[0].id)
    start(server.url, host="0.0.0.0")
    assert "Every key is revoked" in capsys.readouterr().err


def test_with_expired_keys_only_it_says_so_too(keys: Keys, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    Keys(keys._store, now=lambda: yesterday).create("guest", Scope.READ, expires_at=yesterday + timedelta(hours=1))
    start(server.url, host="0.0.0.0")
    assert "Every key is revoked or expired" in capsys.readouterr().err


def test_without_a_key_pages_of_every_origin_are_refused(keys: Keys, server: Server) -> None:
    with pytest.raises(ConfigurationError, match=r"CORS_ORIGINS=\* would let every web page"):
        start(server.url, cors_origins=("*",))
    start(server.url, cors_origins=("https://example.org",))
    keys.create("first", Scope.READ)
    start(server.url, cors_origins=("*",))


def test_without_auth_it_starts_anywhere_and_says_what_that_means(capsys: pytest.CaptureFixture[str]) -> None:
    start(NOWHERE, auth="none", host="0.0.0.0")
    said = capsys.readouterr().err
    assert "AUTH=none: every client that reaches 0.0.0.0:8000 may log, read and delete." in said
    assert "by any host name: ALLOWED_HOSTS" in said
    start(NOWHERE, auth="none", host="0.0.0.0", allowed_hosts=("logs.example.org",))
    start(NOWHERE, auth="none")
    assert "ALLOWED_HOSTS" not in capsys.readouterr().err


def test_a_database_that_is_away_does_not_stop_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    start(NOWHERE, host="0.0.0.0")
    assert "no call is taken" in capsys.readouterr().err


def test_the_supervisor_refuses_to_start_if_strangers_could_send_requests(
    keys: Keys, server: Server, tmp_path: Path
) -> None:
    service = Service(tmp_path, "--no-migrate", DATABASE_URL=server.url, HOST="0.0.0.0")
    assert service.process.wait(timeout=60) == 2
    assert service.log.startswith("predlog: HOST=0.0.0.0 can be reached from elsewhere, and no key exists.")
