"""`flask predictions purge`: remove many predictions for good."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from uuid import UUID

import click

from app.application.purge import Purged, PurgeFilters
from app.commands.group import Commands
from app.domain.instants import parse_bound
from app.presentation.audit import audit
from app.presentation.resources.purge import audited
from app.presentation.services import services

commands = Commands("predictions", help="The logged predictions.")


@commands.command()
@click.option("--model", "model_name", help="Only predictions of this model; alone it removes the model itself.")
@click.option("--model-version", help="Only predictions of this version of the model.")
@click.option("--from", "start", help="Not before this date (UTC) or ISO 8601 instant.")
@click.option("--to", "end", help="Up to this date (included, UTC) or instant (not included).")
@click.option("--request-id", type=click.UUID, help="Only the prediction that was logged with this request id.")
@click.option("--dry-run", is_flag=True, help="Say how many there are, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    model_name: str | None,
    model_version: str | None,
    start: str | None,
    end: str | None,
    request_id: UUID | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove logged predictions for good, from the statistics as well.

    Give at least one filter; predictions that pass all filters are removed. Without --from, --to and --request-id the
    whole model is removed, also from the statistics before the retention edge. Ctrl-C stops after the current piece;
    the same command again removes the rest.
    """
    now = datetime.now(timezone.utc)
    filters = PurgeFilters(
        model_name,
        model_version,
        parse_bound("from", start, timezone.utc, is_end=False) if start is not None else None,
        parse_bound("to", end, timezone.utc, is_end=True) if end is not None else None,
        request_id,
    )
    number = services().purge.count(filters, now)
    click.echo(f"{_predictions(number)} to remove.", err=True)
    if dry_run:
        return
    if not yes:
        click.confirm("They cannot be brought back. Remove them?", abort=True, err=True)
    purged = _purge(filters, number, now)
    click.echo(f"{_predictions(purged.deleted)} removed.")
    if purged.buckets_deleted:
        click.echo(f"Statistics of the model from before {purged.raw_from:%Y-%m-%d} are removed, too.")
    if purged.keeps_aggregates_of(filters, now):
        click.echo(
            f"Single predictions from before {purged.raw_from:%Y-%m-%d} are gone already; statistics of them stay."
        )


def _purge(filters: PurgeFilters, number: int, now: datetime) -> Purged:
    purged = Purged()
    try:
        with click.progressbar(length=max(number, 1), label="Removing", file=sys.stderr) as bar:
            for step in services().purge.run(filters, now):
                purged = step
                bar.update(min(purged.deleted, bar.length or 0) - bar.pos)
            bar.update((bar.length or 0) - bar.pos)
    finally:
        audit("predictions.purged", **audited(filters, purged))
    return purged


def _predictions(number: int) -> str:
    return f"{number:,} {'prediction' if number == 1 else 'predictions'}"
