"""`flask keys …`: who may call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click
from flask.cli import AppGroup

from app.domain.errors import PredlogError
from app.domain.keys import Key, Scope
from app.presentation.services import services
from app.terminal import table

MAY = {
    Scope.WRITE: "log calls",
    Scope.READ: "read calls and statistics",
    Scope.ADMIN: "do everything, also delete",
}

HEAD = ("id", "name", "scope", "models", "created (UTC)", "revoked (UTC)")

commands = AppGroup("keys", help="Who may call.")


@commands.command()
@click.option(
    "--scope", required=True, type=click.Choice([scope.value for scope in Scope]), help="What the key is for."
)
@click.option("--name", required=True, help="Who or what has it.")
@click.option("--model", "models", multiple=True, help="The only model it may log; may be given several times.")
def create(scope: str, name: str, models: Sequence[str]) -> None:
    """Make a key and show it, this once: only its hash is kept.

    The key alone goes to standard output, so that it can be piped to where it is needed.
    """
    with _errors():
        key, sent = services().keys.create(name, Scope(scope), models)
    of_models = f" of {', '.join(sorted(key.models))}" if key.models else ""
    click.echo(
        f"Key {key.id} ({key.name}) may {MAY[key.scope]}{of_models}. It is shown this once.\n"
        "Send it as `Authorization: Bearer …` or `X-API-Key: …`; running services take it within seconds.",
        err=True,
    )
    click.echo(sent)


@commands.command("list")
def list_keys() -> None:
    """Show every key there ever was, never what its holder sends."""
    with _errors():
        keys = services().keys.all()
    click.echo(table(HEAD, map(_row, keys), left=len(HEAD)))


@commands.command()
@click.argument("id", type=click.IntRange(1, 2**63 - 1))
def revoke(id: int) -> None:
    """End a key; running services refuse it within seconds."""
    with _errors():
        key = services().keys.revoke(id)
    click.echo(f"Key {key.id} ({key.name}) is revoked.", err=True)


def _row(key: Key) -> tuple[str, ...]:
    models = "any" if key.models is None else ", ".join(sorted(key.models))
    return (
        str(key.id),
        key.name,
        key.scope.value,
        models if key.scope is Scope.WRITE else "–",
        _time(key.created_at),
        _time(key.revoked_at) if key.revoked_at else "–",
    )


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except PredlogError as error:
        raise click.ClickException(str(error)) from None
