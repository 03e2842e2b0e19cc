"""`flask capacity`: reckon how large servers must be, and say from what."""

from __future__ import annotations

import math
from typing import Any

import click

from app.commands.table import table
from app.domain import capacity
from app.domain.capacity import Load, Need, Node

TB = 1e12
MAX_PREDICTIONS_PER_DAY = 10**15
MAX_MODELS = 10**9
MAX_DAYS = 100_000
MAX_PEAK = 10**6
MAX_CORES = 10**6
MAX_DISK_TB = 10**6
ASSUMPTIONS = f"""\
Assumed, as measured on two cores (docs/benchmarks.md) and reckoned from that:
  the busiest second has {{peak:g}} × the predictions of a mean one; batches have {{batch:,}} predictions
  CPU of service and PostgreSQL: {capacity.CPU_US_PER_REQUEST:,.0f} µs a request and \
{capacity.CPU_US_PER_PREDICTION:.0f} µs a prediction, on Citus {capacity.CPU_US_PER_PREDICTION_ON_CITUS:.0f} µs
  a prediction in rows takes {capacity.BYTES_IN_ROWS} bytes with its indexes, in the columnstore \
{capacity.BYTES_IN_COLUMNSTORE}, a random request id there {capacity.BYTES_OF_RANDOM_REQUEST_ID} more
  a prediction on Citus, which has no columnstore here, takes {capacity.BYTES_ON_CITUS} bytes
  a model's minute in the aggregates takes {capacity.BYTES_PER_MODEL_AND_MINUTE} bytes and \
{capacity.BYTES_PER_BIN} for each bin of its sketch, on Citus {capacity.BYTES_PER_MODEL_AND_MINUTE_ON_CITUS} and \
{capacity.BYTES_PER_BIN_ON_CITUS}
  a busy minute comes near to {capacity.BINS} bins; hours and days take little beside it
  CPUs are at most {capacity.MAX_CPU_USE:.0%} busy, and disks {capacity.MAX_DISK_USE:.0%} full
"""


class Number(click.FloatRange):
    """A number in a range. NaN, which click takes for a number of every range, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Called by click."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


@click.command("capacity")
@click.option(
    "--calls-per-day",
    "predictions_per_day",
    required=True,
    type=Number(1, MAX_PREDICTIONS_PER_DAY),
    help="How many predictions are logged a day.",
)
@click.option(
    "--models", default=1000, show_default=True, type=click.IntRange(1, MAX_MODELS), help="Models that are called."
)
@click.option("--raw-days", default=30.0, show_default=True, type=Number(0, MAX_DAYS), help="RAW_RETENTION.")
@click.option("--minute-days", default=90.0, show_default=True, type=Number(0, MAX_DAYS), help="MINUTE_RETENTION.")
@click.option("--days-in-rows", default=1.0, show_default=True, type=Number(0, MAX_DAYS), help="COLUMNSTORE_AFTER.")
@click.option("--peak", default=3.0, show_default=True, type=Number(1, MAX_PEAK), help="Busiest second ÷ mean one.")
@click.option(
    "--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Predictions of a batch."
)
@click.option(
    "--request-ids/--no-request-ids", default=True, show_default=True, help="Whether predictions have random ids."
)
@click.option(
    "--node-cores", default=8, show_default=True, type=click.IntRange(1, MAX_CORES), help="Cores of a server."
)
@click.option("--node-disk-tb", default=2.0, show_default=True, type=Number(0.1, MAX_DISK_TB), help="Its disk.")
def command(
    predictions_per_day: float,
    models: int,
    raw_days: float,
    minute_days: float,
    days_in_rows: float,
    peak: float,
    batch: int,
    request_ids: bool,
    node_cores: int,
    node_disk_tb: float,
) -> None:
    """Reckon cores, disk and servers for so many predictions a day, and print what is assumed."""
    load = Load(predictions_per_day, models, raw_days, minute_days, days_in_rows, peak, batch, request_ids)
    node = Node(node_cores, node_disk_tb * TB)
    click.echo(f"{load.mean_per_s:,.0f} predictions a second on average, {load.peak_per_s:,.0f} in the busiest.\n")
    single, spread = capacity.on_timescale(load, node), capacity.on_citus(load, node)
    servers = f"servers of {node_cores} cores and {node_disk_tb:g} TB"
    click.echo(table(("", "cores at the peak", "disk", servers), [
        _row("TimescaleDB", single, "1" if single.servers == 1 else "a larger one"),
        _row("Citus", spread, f"{spread.servers:,} workers, 1 coordinator"),
    ]))  # fmt: skip
    click.echo(f"\n{ASSUMPTIONS.format(peak=peak, batch=batch)}")


def _row(name: str, need: Need, servers: str) -> tuple[str, str, str, str]:
    return name, f"{need.cores:,.1f}", f"{need.disk / TB:,.2f} TB", servers
