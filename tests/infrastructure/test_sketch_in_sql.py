"""The database computes the sketch as the domain does."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from app.domain.predictions import MAX_DURATION_MS
from app.domain.sketch import LN_GAMMA, ZERO_BIN, bin_of, value_of


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


def test_the_constant_is_the_same_to_the_last_bit(connection: Connection) -> None:
    assert connection.scalar(text("SELECT latency_ln_gamma()")) == LN_GAMMA


def test_a_duration_falls_into_the_same_bin(connection: Connection) -> None:
    dice = random.Random(7)
    durations = [0.0, 1e-6, 1.0, MAX_DURATION_MS, *(10 ** dice.uniform(-6, 8) for _ in range(5000))]
    bins = connection.execute(
        text("SELECT latency_bin(unnest(CAST(:durations AS float8[])))"), {"durations": durations}
    )
    assert [number for (number,) in bins] == [bin_of(duration) for duration in durations]


def test_a_bin_stands_for_the_same_duration(connection: Connection) -> None:
    bins = [ZERO_BIN, *range(-700, 1000)]
    values = connection.execute(text("SELECT latency_of_bin(unnest(CAST(:bins AS integer[])))"), {"bins": bins})
    assert all(math.isclose(value, value_of(number), rel_tol=1e-12) for (value,), number in zip(values, bins))
