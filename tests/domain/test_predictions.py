"""What a prediction must be like to be kept, and how its numbers are given back."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.predictions import (
    EARLIEST,
    FUTURE_TOLERANCE,
    MAX_DURATION_MS,
    duration_problem,
    shortest_number,
    text_problem,
    timestamp_of,
    timestamp_problem,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (124.0, "124"), (0.35, "0.35"), (0.0, "0"), (-0.0, "0"), (1e15, "1000000000000000"),
        (2.0**53 - 1, "9007199254740991"), (2.0**53, "9007199254740992.0"), (1e292, "1e+292"), (5e-324, "5e-324"),
    ],
)  # fmt: skip
def test_a_number_is_written_as_its_sender_wrote_it(value: float, written: str) -> None:
    assert json.dumps(shortest_number(value)) == written


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_shortest_number_is_the_same_number(value: float) -> None:
    assert float(json.loads(json.dumps(shortest_number(value)))) == value


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 0.35, 124, MAX_DURATION_MS])
def test_durations_from_nothing_to_the_longest_are_kept(value: float) -> None:
    assert duration_problem(value) is None


@pytest.mark.parametrize("value", [-5e-324, -1, float("nan"), float("inf"), float("-inf"), MAX_DURATION_MS * 1.01])
def test_an_invalid_duration_is_refused_with_a_sentence(value: float) -> None:
    problem = duration_problem(value)
    assert problem is not None
    assert problem.endswith(".")


def test_times_from_2000_to_five_minutes_ahead_are_kept() -> None:
    for timestamp in (EARLIEST, NOW, NOW + FUTURE_TOLERANCE):
        assert timestamp_problem(timestamp, NOW) is None
    assert datetime(2000, 1, 1, tzinfo=timezone.utc) == EARLIEST


@pytest.mark.parametrize(
    ("timestamp", "word"), [(EARLIEST - TICK, "2000"), (NOW + timedelta(minutes=5) + TICK, "future")]
)
def test_times_before_2000_or_too_far_ahead_are_refused(timestamp: datetime, word: str) -> None:
    assert word in (timestamp_problem(timestamp, NOW) or "")


@pytest.mark.parametrize(("text", "word"), [("a\x00b", "NUL"), ("\ud800", "surrogate"), ("x\udfff", "surrogate")])
def test_text_that_postgresql_cannot_keep_is_refused(text: str, word: str) -> None:
    assert word in (text_problem(text) or "")


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_any_other_text_is_kept(text: str) -> None:
    assert text_problem(text) is None


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [
        ("0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", datetime(2025, 6, 24, 11, 28, 56, 788000, tzinfo=timezone.utc)),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=timezone.utc)),
        ("0197a1b2-c3d4-4e5f-8a9b-0c1d2e3f4a5b", None),
        ("0197a1b2-c3d4-7e5f-0a9b-0c1d2e3f4a5b", None),  # another variant
        ("00000000-0000-0000-0000-000000000000", None),
    ],
)
def test_only_a_uuid7_tells_a_time(request_id: str, expected: datetime | None) -> None:
    assert timestamp_of(UUID(request_id)) == expected
