"""`flask keys create|list|revoke`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine

from app.application.keys import Keys
from app.domain.errors import NotAuthenticated
from app.domain.keys import Scope
from app.infrastructure.database import Database
from app.infrastructure.key_store import KeyStore
from conftest import make_app
from scratch import url_where_nobody_listens

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
    return Keys(KeyStore(storage))


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


def test_a_write_key_may_be_bound_to_models(run: Run, keys: Keys) -> None:
    key = keys.identify(create(run, "--scope", "write", "--name", "shop", "--model", "b", "--model", "a, c"))
    assert key is not None
    assert key.models == {"b", "a, c"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scope", "read", "--name", "x", "--model", "a"),
        ("--scope", "admin", "--name", "x", "--model", "a"),
        ("--scope", "write", "--name", "x", "--model", ""),
        ("--scope", "write", "--name", "x", "--model", "m" * 201),
        ("--scope", "write", "--name", ""),
        ("--scope", "write", "--name", "n" * 201),
        ("--scope", "write", "--name", "a\0b"),
        ("--scope", "write"),
        ("--name", "x"),
        ("--scope", "all", "--name", "x"),
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
    assert [row.split()[1:4] for row in rows] == [["shop", "write", "a"], ["eye", "read", "–"]]
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


def test_without_the_database_a_command_says_so() -> None:
    app = make_app(url_where_nobody_listens())
    result = app.test_cli_runner().invoke(args=["keys", "list"])
    assert result.exit_code == 1
    assert result.stderr == "Error: The database is not available.\n"
