"""What servers must have, reckoned from the load."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.capacity import BYTES_ON_CITUS, MAX_CPU_USE, MAX_DISK_USE, Load, Node, on_citus, on_timescale

A_BILLION = Load(
    predictions_per_day=1e9, models=1000, raw_days=30, minute_days=90, days_in_rows=1, peak=3, batch=10_000,
    has_request_ids=True,
)  # fmt: skip
NODE = Node(cores=8, disk=2e12)


def test_one_node_holds_a_billion_predictions_a_day_for_a_month() -> None:
    assert on_timescale(A_BILLION, NODE).servers == 1


def test_the_busiest_second_takes_its_predictions_times_the_cpu_of_each() -> None:
    assert on_timescale(A_BILLION, NODE).cores == pytest.approx(3e9 / 86_400 * 20.13e-6 / MAX_CPU_USE)


def test_on_citus_every_prediction_stays_in_rows() -> None:
    no_aggregates = replace(A_BILLION, minute_days=0)
    assert on_citus(no_aggregates, NODE).disk == pytest.approx(30e9 * BYTES_ON_CITUS / MAX_DISK_USE)
    assert on_citus(no_aggregates, NODE).servers == 7


def test_a_model_with_few_predictions_takes_less_for_a_minute_than_a_busy_one() -> None:
    only_aggregates = replace(A_BILLION, raw_days=0)
    quiet = replace(only_aggregates, predictions_per_day=1e7)
    assert on_citus(quiet, NODE).disk < on_citus(only_aggregates, NODE).disk / 10


def test_the_aggregates_of_a_busy_minute_hardly_grow_with_its_predictions() -> None:
    only_aggregates = replace(A_BILLION, raw_days=0)
    busier = replace(only_aggregates, predictions_per_day=1e10)
    assert on_citus(busier, NODE).disk == pytest.approx(on_citus(only_aggregates, NODE).disk, rel=0.05)


def test_small_batches_take_more_cores() -> None:
    assert on_timescale(replace(A_BILLION, batch=12), NODE).cores > 5 * on_timescale(A_BILLION, NODE).cores


@pytest.mark.parametrize("engine", [on_timescale, on_citus])
@given(
    factor=st.floats(1, 1000),
    name=st.sampled_from(["predictions_per_day", "models", "raw_days", "minute_days", "peak"]),
)
def test_more_of_anything_never_needs_less(engine, factor: float, name: str) -> None:  # type: ignore[no-untyped-def]
    more = replace(A_BILLION, **{name: getattr(A_BILLION, name) * factor})
    less, need = engine(A_BILLION, NODE), engine(more, NODE)
    assert need.cores >= less.cores and need.disk >= less.disk and need.servers >= less.servers


def test_rows_that_are_kept_shorter_than_they_wait_never_reach_the_columnstore() -> None:
    short = replace(A_BILLION, raw_days=0.5, days_in_rows=7)
    assert on_timescale(short, NODE).disk == on_timescale(replace(short, days_in_rows=0.5), NODE).disk
