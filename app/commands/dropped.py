"""`flask dropped …`: what clients reported as dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import click
from flask import current_app

from app.application.dropped import Dropped, facts
from app.commands.extensions import MAINTENANCE
from app.commands.group import Commands
from app.domain.instants import parse_bound
from app.infrastructure.dropped_store import PostgresDroppedStore
from app.infrastructure.postgres.database import Database
from app.presentation.audit import audit

commands = Commands("dropped", help="What clients reported as dropped.")


@commands.command()
@click.option("--model", "models", multiple=True, help="Only reports of this model; may be given several times.")
@click.option("--from", "start", help="Not before this date (UTC) or instant.")
@click.option("--to", "end", help="Up to this date (included, UTC) or instant (not included).")
def remove(models: Sequence[str], start: str | None, end: str | None) -> None:
    """Remove reports that cannot be true, from the statistics as well.

    Give a model, a range of time, or both. Clients that report meanwhile wait until the command is done.
    """
    database: Database = current_app.extensions[MAINTENANCE][0]
    dropped = Dropped(PostgresDroppedStore(database, database.maintenance))
    bounds = _bound("from", start, is_end=False), _bound("to", end, is_end=True)
    removed = dropped.remove(models, *bounds)
    audit("dropped.removed", **facts(models, *bounds), **vars(removed))
    click.echo(f"{removed.reports:,} reports of {removed.dropped:,} dropped predictions are removed.")


def _bound(name: str, text: str | None, *, is_end: bool) -> datetime | None:
    return parse_bound(name, text, timezone.utc, is_end=is_end) if text is not None else None
