"""The `flask` commands that maintain a prediction log."""

from __future__ import annotations

from datetime import datetime, timedelta

import click
from flask import Flask, current_app

from app.application.retention import LifeCycle, Maintenance, Overview
from app.commands import alerts, capacity, dropped, grafana, keys, purge, roles
from app.commands.extensions import MAINTENANCE
from app.commands.group import Commands
from app.commands.table import table
from app.infrastructure.maintenance import engines
from app.infrastructure.postgres.database import Database
from app.wiring.life_cycle import life_cycle_of
from config import Config

MAX_PIECE_HOURS = 1_000_000  # all that can be logged, a hundred years and more

stats = Commands("stats", help="The aggregates that statistics are read from.")
life_cycle = Commands("lifecycle", help="Retention, columnstore and jobs.")


def register(app: Flask, database: Database, config: Config) -> None:
    """Attach the commands to the application."""
    app.extensions[MAINTENANCE] = (database, life_cycle_of(config))
    app.cli.add_command(stats)
    app.cli.add_command(life_cycle)
    app.cli.add_command(alerts.commands)
    app.cli.add_command(capacity.command)
    app.cli.add_command(grafana.commands)
    app.cli.add_command(keys.commands)
    app.cli.add_command(dropped.commands)
    app.cli.add_command(purge.commands)
    app.cli.add_command(roles.commands)


@stats.command()
@click.option(
    "--piece-hours",
    default=24,
    show_default=True,
    type=click.IntRange(1, MAX_PIECE_HOURS),
    help="Hours of history at a time.",
)
def refresh(piece_hours: int) -> None:
    """Refresh the aggregates and all invalidated hours.

    A job of the database does so every few seconds. The command is for a first start on existing data, for the time
    after an import, and for databases without jobs. Ctrl-C stops after the current piece and keeps what is done.
    """
    maintenance, _ = _tools()
    # The bar counts seconds of history first, then invalidated hours.
    with click.progressbar(length=1, label="Refreshing", show_pos=False) as bar:
        changed = None
        for progress in maintenance.refresh(timedelta(hours=piece_hours)):
            if progress.hours_left is None:
                bar.length, bar.pos = max(int(progress.total), 1), int(progress.done)
            else:
                changed = changed or progress.hours_left + 1
                bar.label, bar.length, bar.pos = "Refreshing invalidated hours", changed, changed - progress.hours_left
            bar.update(0)
        bar.update((bar.length or 0) - bar.pos)
    click.echo(_watermark(maintenance.overview()))


@life_cycle.command()
def show() -> None:
    """Show sizes, compression, chunks or shards, jobs and their last runs, and nodes."""
    maintenance, _ = _tools()
    overview = maintenance.overview()
    click.echo(f"Storage engine: {overview.engine}\n{_watermark(overview)}\n")
    parts = "shards" if overview.nodes else "chunks"
    click.echo(table(("relation", "rows ≈", "size", parts, "columnstore", "ratio", "kept from"), [
        (r.name, _count(r.rows), _bytes(r.size), _count(r.chunks), _count(r.columnstore_chunks),
         f"{r.ratio:.1f}" if r.ratio else "–", f"{r.kept_from:%Y-%m-%d}" if r.kept_from else "all")
        for r in overview.relations
    ]))  # fmt: skip
    if overview.jobs:
        click.echo()
        click.echo(table(("job", "on", "every", "last run", "status", "next run", "failures"), [
            (j.name, j.relation or "–", str(j.every), _time(j.last_run), j.last_status or "–", _time(j.next_run),
             _count(j.failures))
            for j in overview.jobs
        ]))  # fmt: skip

    if overview.nodes:
        click.echo()
        click.echo(table(("node", "shards", "size"), [
            (n.name, _count(n.shards), "away" if n.size is None else _bytes(n.size)) for n in overview.nodes
        ]))  # fmt: skip


@life_cycle.command()
def apply() -> None:
    """Make RAW_RETENTION, MINUTE_RETENTION, …, COLUMNSTORE_AFTER the settings of the database's jobs."""
    maintenance, settings = _tools()
    maintenance.apply(settings)


@life_cycle.command()
def retain() -> None:
    """Drop rows and buckets beyond the retention settings.

    Run it daily on the engines plain and citus, which have no jobs.
    """
    maintenance, settings = _tools()
    maintenance.retain(settings)


def _tools() -> tuple[Maintenance, LifeCycle]:
    database, settings = current_app.extensions[MAINTENANCE]
    return engines.maintenance(database), settings


def _watermark(overview: Overview) -> str:
    if overview.engine != "timescale":
        return "The aggregates are exact at every moment."
    pending = f", {overview.hours_pending_repair} hours pending repair" if overview.hours_pending_repair else ""
    return f"Materialised to {overview.watermark:%Y-%m-%d %H:%M} UTC{pending}."


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _time(instant: datetime | None) -> str:
    return "–" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
