"""`flask keys …`: create, list, rotate and revoke API keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from app.commands.group import Commands
from app.commands.table import table
from app.domain.instants import parse_bound
from app.domain.keys import ApiKey, Scope, given_key_problem
from app.presentation.audit import audit
from app.presentation.services import services
from config import secret

MAY = {
    Scope.WRITE: "log predictions",
    Scope.READ: "read predictions and statistics",
    Scope.ADMIN: "do everything, also delete",
}

HEAD = ("id", "name", "scope", "models", "created (UTC)", "last used (UTC)", "expires (UTC)", "revoked (UTC)")
NEVER = "–"
FIRST_KEY = "PREDLOG_ADMIN_KEY"
UNITS = {"d": "days", "h": "hours", "m": "minutes"}
DURATION = re.compile(r"(\d{1,5}) *(d|days?|h|hours?|m|min|minutes?)", re.IGNORECASE | re.ASCII)

commands = Commands("keys", help="Create, list, rotate and revoke API keys.")


class Duration(click.ParamType[timedelta]):
    """A length of time in words."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Called by click. A plain 0 means no time."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip()
        match = DURATION.fullmatch(text)
        if match is None and text != "0":
            self.fail(f'"{value}" is no duration like "90 days", "36 hours" or "30 minutes".', param, ctx)
        return timedelta(**{UNITS[match[2][0].lower()]: int(match[1])}) if match else timedelta()


@commands.command()
@click.option(
    "--scope", required=True, type=click.Choice([scope.value for scope in Scope]), help="What its holder may do."
)
@click.option("--name", required=True, help="A name for its holder.")
@click.option("--model", "models", multiple=True, help="The only model it may log or read; may be given several times.")
@click.option("--expires-in", type=Duration(), help='It ends after so long: "90 days", "36 hours".')
@click.option("--expires-at", help="It ends then: an ISO 8601 instant, or a date, which is its last day (UTC).")
def create(scope: str, name: str, models: Sequence[str], expires_in: timedelta | None, expires_at: str | None) -> None:
    """Create a key and show it, only once, because only its hash is kept.

    Standard output has the key alone, so that it can be piped to another program.
    """
    end = _end(expires_in, expires_at)
    key, sent = services().keys.create(name, Scope(scope), models, end)
    audit("key.created", **_facts(key))
    of_models = f" of {', '.join(sorted(key.models))}" if key.models else ""
    until = f" until {_time(key.expires_at)} UTC" if key.expires_at else ""
    _show(f"Key {key.id} ({key.name}) may {MAY[key.scope]}{of_models}{until}.", sent)


@commands.command("create-first")
def create_first() -> None:
    """Take PREDLOG_ADMIN_KEY as the first admin key, unless a key was ever made.

    The key comes from the environment or from the file that PREDLOG_ADMIN_KEY_FILE names, and is never shown: only
    its hash is kept. Run again, the command changes nothing.
    """
    given = secret(FIRST_KEY)
    if not given:
        raise click.ClickException(f"{FIRST_KEY} is not set: it is the key that the first administrator sends.")
    if problem := given_key_problem(given):
        raise click.ClickException(f"{FIRST_KEY} {problem}.")
    made, is_good = services().keys.create_first(given)
    if made:
        audit("key.created", **_facts(made))
        click.echo(f"Key {made.id} ({made.name}) may {MAY[made.scope]}: it is what {FIRST_KEY} says.", err=True)
    elif is_good:
        click.echo(f"{FIRST_KEY} is a key already.", err=True)
    else:
        click.echo(
            f"{FIRST_KEY} is no key that holds, and none is made of it, because other keys were made before: "
            "`flask --app wsgi keys create` makes a new one.",
            err=True,
        )


@commands.command("list")
def list_keys() -> None:
    """Show every key that was ever made, revoked ones included; secrets are never shown."""
    keys = services().keys.all()
    click.echo(table(HEAD, map(_row, keys), left=len(HEAD)))


@commands.command()
@click.argument("key_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--grace",
    type=Duration(),
    default="1 day",
    show_default=True,
    help="How long the old secret is accepted, too; 0: not at all.",
)
def rotate(key_id: int, grace: timedelta) -> None:
    """Give a key a new secret and show it, only once; the key keeps its id, scope, models and expiry.

    The old secret stays accepted for the time of grace, so that its holder can change to the new one without a gap.
    """
    key, sent = services().keys.rotate(key_id, grace)
    audit("key.rotated", key=key.id, name=key.name, old_secret_until=_iso(key.previous_until))
    old = f"is accepted until {_time(key.previous_until)} UTC" if key.previous_until else "has ended"
    _show(f"Key {key.id} ({key.name}) has a new secret; the old one {old}.", sent)


@commands.command()
@click.argument("key_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
def revoke(key_id: int) -> None:
    """End a key; running services refuse it within seconds."""
    key = services().keys.revoke(key_id)
    audit("key.revoked", key=key.id, name=key.name)
    click.echo(f"Key {key.id} ({key.name}) is revoked.", err=True)


def _show(sentence: str, sent: str) -> None:
    click.echo(
        f"{sentence} It is shown this once.\n"
        "Send it as `Authorization: Bearer …` or `X-API-Key: …`; running services take it within seconds.",
        err=True,
    )
    click.echo(sent)


def _end(expires_in: timedelta | None, expires_at: str | None) -> datetime | None:
    if expires_in is not None and expires_at is not None:
        raise click.ClickException("Give --expires-in or --expires-at, not both.")
    if expires_in is not None:
        return datetime.now(timezone.utc) + expires_in
    return None if expires_at is None else parse_bound("expires-at", expires_at, timezone.utc, is_end=True)


def _facts(key: ApiKey) -> dict[str, Any]:
    """Return the fields of a new key for its audit line."""
    models = None if key.models is None else sorted(key.models)
    return {
        "key": key.id,
        "name": key.name,
        "scope": key.scope.value,
        "models": models,
        "expires_at": _iso(key.expires_at),
    }


def _row(key: ApiKey) -> tuple[str, ...]:
    models = "any" if key.models is None else ", ".join(sorted(key.models))
    return (
        str(key.id),
        key.name,
        key.scope.value,
        NEVER if key.scope is Scope.ADMIN else models,
        _time(key.created_at),
        *(_time(instant) if instant else NEVER for instant in (key.last_used_at, key.expires_at, key.revoked_at)),
    )


def _time(instant: datetime) -> str:
    return f"{instant.astimezone(timezone.utc):%Y-%m-%d %H:%M}"


def _iso(instant: datetime | None) -> str | None:
    return instant.astimezone(timezone.utc).isoformat(timespec="seconds") if instant else None
