"""`flask keys create|create-first|list|rotate|revoke`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine

from app.application.keys import Keys
from app.domain.errors import NotAuthenticated
from app.domain.keys import Scope
from app.infrastructure.key_store import PostgresKeyStore
from app.infrastructure.postgres.database import Database
from conftest import make_app
from support.scratch import url_where_nobody_listens

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask, database: Engine) -> Iterator[Run]:
    """Run a command; the keys that it makes are gone afterwards."""

    def run(*arguments: str) -> Result:
        return app.test_cli_runner().invoke(args=["keys", *arguments])

    yield run
    with database.connect() as connection:
        connection.exec_driver_sql("DELETE FROM api_key")


@pytest.fixture
def keys(database: Engine) -> Keys:
    """As another process sees them."""
    storage = Database(database.url.render_as_string(hide_password=False), pool_size=1)
    return Keys(PostgresKeyStore(storage))


def create(run: Run, *arguments: str) -> str:
    result = run("create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def lines(run: Run) -> list[str]:
    return run("list").stdout.splitlines()


@pytest.mark.parametrize("scope", list(Scope))
def test_a_created_key_has_its_scope(run: Run, keys: Keys, scope: Scope) -> None:
    key = keys.identify(create(run, "--scope", scope.value, "--name", "a name"))
    assert key is not None
    assert (key.scope, key.name, key.models, key.revoked_at) == (scope, "a name", None, None)


def test_only_the_key_goes_to_standard_output(run: Run) -> None:
    result = run("create", "--scope", "write", "--name", "shop")
    assert result.stdout.startswith("predlog_")
    assert len(result.stdout.split()) == 1
    assert "shop" in result.stderr
    assert result.stdout.strip() not in result.stderr


@pytest.mark.parametrize("scope", ["write", "read"])
def test_a_key_that_writes_or_reads_may_be_bound_to_models(run: Run, keys: Keys, scope: str) -> None:
    key = keys.identify(create(run, "--scope", scope, "--name", "shop", "--model", "b", "--model", "a, c"))
    assert key is not None
    assert key.models == frozenset({"b", "a, c"})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scope", "admin", "--name", "x", "--model", "a"),
        ("--scope", "write", "--name", "x", "--model", ""),
        ("--scope", "write", "--name", "x", "--model", "m" * 201),
        ("--scope", "write", "--name", ""),
        ("--scope", "write", "--name", "n" * 201),
        ("--scope", "write", "--name", "a\0b"),
        ("--scope", "write"),
        ("--name", "x"),
        ("--scope", "all", "--name", "x"),
        ("--scope", "read", "--name", "x", "--expires-in", "0"),
        ("--scope", "read", "--name", "x", "--expires-in", "a while"),
        ("--scope", "read", "--name", "x", "--expires-in", "-1 days"),
        ("--scope", "read", "--name", "x", "--expires-at", "2020-01-01"),
        ("--scope", "read", "--name", "x", "--expires-at", "soon"),
        ("--scope", "read", "--name", "x", "--expires-in", "1 day", "--expires-at", "2099-01-01"),
    ],
)
def test_what_makes_no_key_is_refused_with_a_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("create", *arguments)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert len(lines(run)) == 2


def test_the_list_shows_every_key_and_no_secret(run: Run) -> None:
    sent = [
        create(run, "--scope", "write", "--name", "shop", "--model", "a"),
        create(run, "--scope", "read", "--name", "eye"),
    ]
    head, _, *rows = lines(run)
    assert head.split()[:4] == ["id", "name", "scope", "models"]
    assert [row.split()[1:4] for row in rows] == [["shop", "write", "a"], ["eye", "read", "any"]]
    assert not any(key.split("_", 2)[2] in "".join(rows) for key in sent)


def test_a_revoked_key_is_refused_and_stays_in_the_list(run: Run, keys: Keys) -> None:
    sent = create(run, "--scope", "read", "--name", "eye")
    id = sent.split("_")[1]
    assert lines(run)[2].endswith("–")
    assert run("revoke", id).exit_code == 0
    with pytest.raises(NotAuthenticated):
        keys.identify(sent)
    first = lines(run)[2]
    assert not first.endswith("–")
    assert run("revoke", id).exit_code == 0
    assert lines(run)[2] == first


def test_a_key_that_is_not_there_cannot_be_revoked(run: Run) -> None:
    result = run("revoke", "4611686018427387904")
    assert result.exit_code == 1
    assert result.stderr == "Error: There is no key with id 4611686018427387904.\n"


def audit_lines(result: Result) -> list[dict[str, Any]]:
    """What the command has left in the log."""
    return [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("arguments", "length"),
    [
        (("--expires-in", "36 hours"), timedelta(hours=36)),
        (("--expires-in", "90d"), timedelta(days=90)),
        (("--expires-in", "5 min"), timedelta(minutes=5)),
    ],
)
def test_a_key_may_end_by_itself(run: Run, keys: Keys, arguments: tuple[str, ...], length: timedelta) -> None:
    before = datetime.now(timezone.utc)
    key = keys.identify(create(run, "--scope", "read", "--name", "guest", *arguments))
    assert key is not None and key.expires_at is not None
    assert before + length <= key.expires_at <= datetime.now(timezone.utc) + length


def test_a_key_that_ends_on_a_date_is_good_for_that_whole_day(run: Run, keys: Keys) -> None:
    key = keys.identify(create(run, "--scope", "read", "--name", "guest", "--expires-at", "2099-12-31"))
    assert key is not None
    assert key.expires_at == datetime(2100, 1, 1, tzinfo=timezone.utc)


def test_a_rotated_key_has_a_new_secret_and_keeps_the_old_one_for_a_while(run: Run, keys: Keys) -> None:
    old = create(run, "--scope", "write", "--name", "shop", "--model", "a")
    id = old.split("_")[1]
    result = run("rotate", id, "--grace", "2 hours")
    new = result.stdout.strip()
    assert new.split("_")[:2] == ["predlog", id] and new != old
    [first, second] = [keys.identify(sent) for sent in (old, new)]
    assert first == second
    assert second is not None and (second.scope, second.models) == (Scope.WRITE, frozenset({"a"}))
    assert run("revoke", id).exit_code == 0
    fresh = Keys(keys._store)
    for sent in (old, new):
        with pytest.raises(NotAuthenticated):
            fresh.identify(sent)


def test_without_grace_the_old_secret_ends_at_once(run: Run, keys: Keys) -> None:
    old = create(run, "--scope", "read", "--name", "eye")
    new = run("rotate", old.split("_")[1], "--grace", "0").stdout.strip()
    assert keys.identify(new)
    with pytest.raises(NotAuthenticated):
        keys.identify(old)


def test_a_second_rotation_does_not_cut_the_first_ones_grace_short(run: Run, keys: Keys) -> None:
    old = create(run, "--scope", "read", "--name", "eye")
    id = old.split("_")[1]
    new = run("rotate", id).stdout.strip()
    refused = run("rotate", id)
    assert refused.exit_code == 1 and "accepted still" in refused.stderr
    assert keys.identify(old) and keys.identify(new)
    last = run("rotate", id, "--grace", "0").stdout.strip()
    fresh = Keys(keys._store)
    assert fresh.identify(last)
    for sent in (old, new):
        with pytest.raises(NotAuthenticated):
            fresh.identify(sent)


def test_a_key_that_has_ended_is_not_rotated(run: Run) -> None:
    id = create(run, "--scope", "read", "--name", "eye").split("_")[1]
    run("revoke", id)
    result = run("rotate", id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has ended" in result.stderr
    assert run("rotate", "4611686018427387904").stderr == "Error: There is no key with id 4611686018427387904.\n"


def test_changes_of_a_key_are_in_the_log_without_its_secret(run: Run) -> None:
    created = run("create", "--scope", "write", "--name", "shop", "--model", "a", "--expires-at", "2099-12-31")
    id = created.stdout.split("_")[1]
    rotated, revoked = run("rotate", id), run("revoke", id)
    lines = [line for result in (created, rotated, revoked) for line in audit_lines(result)]
    assert [(line["event"], line["action"], line["key"], line["name"]) for line in lines] == [
        ("audit", action, int(id), "shop") for action in ("key.created", "key.rotated", "key.revoked")
    ]
    assert all(line["by"].endswith("at the command line") for line in lines)
    assert (lines[0]["scope"], lines[0]["models"]) == ("write", ["a"])
    assert lines[0]["expires_at"] == "2100-01-01T00:00:00+00:00"
    secrets = [result.stdout.strip().split("_", 2)[2] for result in (created, rotated)]
    assert not any(secret in json.dumps(lines) for secret in secrets)


GIVEN = "k" + token_hex(32)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PREDLOG_ADMIN_KEY", GIVEN)
    return GIVEN


def test_the_operators_own_key_becomes_the_first_and_is_shown_nowhere(run: Run, keys: Keys, given: str) -> None:
    result = run("create-first")
    assert result.exit_code == 0, result.output
    key = keys.identify(given)
    assert key is not None
    assert (key.scope, key.models, key.expires_at) == (Scope.ADMIN, None, None)
    assert given not in result.output
    assert [line["action"] for line in audit_lines(result)] == ["key.created"]


def test_to_create_the_first_key_again_changes_nothing(run: Run, given: str) -> None:
    run("create-first")
    before = lines(run)
    result = run("create-first")
    assert result.exit_code == 0
    assert "is a key already" in result.stderr
    assert lines(run) == before


def test_after_other_keys_an_operators_own_one_is_not_taken(run: Run, keys: Keys, given: str) -> None:
    id = create(run, "--scope", "read", "--name", "eye").split("_")[1]
    run("revoke", id)
    result = run("create-first")
    assert result.exit_code == 0
    assert "is no key that holds" in result.stderr
    with pytest.raises(NotAuthenticated):
        keys.identify(given)


def test_the_first_key_may_be_rotated(run: Run, keys: Keys, given: str) -> None:
    run("create-first")
    [id] = [line.split()[0] for line in lines(run)[2:]]
    new = run("rotate", id).stdout.strip()
    assert keys.identify(given) == keys.identify(new)


def test_the_first_key_may_come_from_a_file(
    run: Run, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(GIVEN + "\n")
    monkeypatch.setenv("PREDLOG_ADMIN_KEY_FILE", str(tmp_path / "key"))
    assert run("create-first").exit_code == 0
    assert keys.identify(GIVEN)


@pytest.mark.parametrize(
    "weak",
    ["", "admin", "x" * 31, "x" * 64, "correct horse battery staple correct horse", "ключ" * 10, "predlog_1_" + GIVEN],
    ids=range(7),
)
def test_an_operators_own_key_that_could_be_guessed_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, weak: str
) -> None:
    monkeypatch.setenv("PREDLOG_ADMIN_KEY", weak)
    result = run("create-first")
    assert result.exit_code == 1
    assert "PREDLOG_ADMIN_KEY" in result.stderr
    assert not weak or weak not in result.output
    assert len(lines(run)) == 2


def test_the_password_of_grafanas_role_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(url_where_nobody_listens())
    monkeypatch.delenv("PREDLOG_READER_PASSWORD", raising=False)
    monkeypatch.setenv("PREDLOG_READER_PASSWORD_FILE", str(tmp_path / "password"))
    result = app.test_cli_runner().invoke(args=["grafana", "create-reader"])
    assert result.exit_code == 1
    assert re.match("Error: PREDLOG_READER_PASSWORD_FILE names .* which cannot be read", result.stderr)
    (tmp_path / "password").write_text("short\n")
    result = app.test_cli_runner().invoke(args=["grafana", "create-reader"])
    assert "PREDLOG_READER_PASSWORD is not set" not in result.stderr
    assert "short" not in result.output


def test_without_the_database_a_command_says_so() -> None:
    app = make_app(url_where_nobody_listens())
    result = app.test_cli_runner().invoke(args=["keys", "list"])
    assert result.exit_code == 1
    assert result.stderr == "Error: The database is not available.\n"


COMMANDS_WITH_PASSWORDS = [("grafana create-reader", "PREDLOG_READER_PASSWORD"),
                           ("roles create-service", "PREDLOG_SERVICE_PASSWORD")]  # fmt: skip


@pytest.mark.parametrize(("command", "password"), COMMANDS_WITH_PASSWORDS)
def test_without_the_database_no_role_is_created_and_the_command_says_so(
    command: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(password, "long-enough-for-a-role")
    result = make_app(url_where_nobody_listens()).test_cli_runner().invoke(args=command.split())
    assert result.exit_code == 1
    assert result.stderr == "Error: The database is not available.\n"


@pytest.mark.parametrize(("command", "password"), COMMANDS_WITH_PASSWORDS)
def test_a_password_that_is_no_text_is_refused_with_a_sentence(
    command: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(password, os.fsdecode(b"long-enough-but-\xff"))
    result = make_app(url_where_nobody_listens()).test_cli_runner().invoke(args=command.split())
    assert result.exit_code == 1
    assert "must be UTF-8 text" in result.stderr
    assert "long-enough" not in result.output
