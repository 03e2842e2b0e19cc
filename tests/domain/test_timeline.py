"""The points of a series, on clocks that are set forward and back."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.instants import HOUR, TimeRange, parse_instant
from app.domain.timeline import BUCKETS, MAX_POINTS, POINTS_WANTED, choose_bucket, timeline

TICK = timedelta(microseconds=1)
ORIGIN = datetime(1970, 1, 1)
ZONES = st.sampled_from(
    [
        "UTC", "Etc/GMT-7", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns",
        "Australia/Lord_Howe",  # half an hour of summer time
        "America/Sao_Paulo", "America/Havana", "Asia/Beirut",  # the clock is set at midnight
        "Pacific/Apia",  # 30 December 2011 was left out
        "Antarctica/Troll",  # two hours of summer time
        "Africa/Casablanca",
    ]
).map(ZoneInfo)  # fmt: skip
MAX_SHIFT = 2 * HOUR


@st.composite
def questions(draw: st.DrawFn) -> tuple[TimeRange, str, ZoneInfo]:
    """A range of up to a hundred buckets, anywhere from 2010 to 2026, often near a change of the clock."""
    bucket, zone = draw(st.sampled_from(list(BUCKETS))), draw(ZONES)
    start = draw(st.datetimes(datetime(2010, 1, 1), datetime(2026, 12, 1), timezones=st.just(timezone.utc)))
    if draw(st.booleans()):
        start = _last_change_of_the_clock(start, zone) - draw(st.integers(0, 5)) * BUCKETS[bucket]
    length = draw(st.timedeltas(timedelta(), 100 * BUCKETS[bucket]))
    return TimeRange(start, start + length), bucket, zone


def _last_change_of_the_clock(instant: datetime, zone: ZoneInfo) -> datetime:
    for _ in range(500):
        if (instant - timedelta(days=1)).astimezone(zone).utcoffset() != instant.astimezone(zone).utcoffset():
            return instant.replace(minute=0, second=0, microsecond=0)
        instant -= timedelta(days=1)
    return instant


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


@given(questions())
def test_the_points_lie_end_to_end_from_the_ranges_start_to_its_end(question: tuple[TimeRange, str, ZoneInfo]) -> None:
    range, bucket, zone = question
    edges = timeline(range, bucket, zone).edges
    assert (edges[0], edges[-1]) == (range.start, range.end)
    assert all(a < b for a, b in pairwise(edges))


@given(questions())
def test_points_begin_at_full_buckets_of_the_local_clock_or_when_it_was_set(
    question: tuple[TimeRange, str, ZoneInfo],
) -> None:
    range, bucket, zone = question
    for edge in timeline(range, bucket, zone).edges[1:-1]:
        is_full = not (_wall(edge, zone) - ORIGIN) % BUCKETS[bucket]
        was_set = edge.astimezone(zone).utcoffset() != (edge - TICK).astimezone(zone).utcoffset()
        assert is_full or was_set, edge.astimezone(zone)


@given(questions())
def test_no_point_is_longer_than_its_bucket_but_by_what_the_clock_was_set_back(
    question: tuple[TimeRange, str, ZoneInfo],
) -> None:
    range, bucket, zone = question
    width = BUCKETS[bucket]
    for start, end in pairwise(timeline(range, bucket, zone).edges):
        before, after = (moment.astimezone(zone).utcoffset() or timedelta() for moment in (start, end))
        set_back = before - after
        allowed = width if width <= HOUR else width + min(max(set_back, timedelta()), MAX_SHIFT)
        assert end - start <= allowed, (start.astimezone(zone), end.astimezone(zone))


@given(questions())
def test_points_that_no_change_of_the_clock_touches_are_one_bucket_long(
    question: tuple[TimeRange, str, ZoneInfo],
) -> None:
    range, bucket, zone = question
    inner = timeline(range, bucket, zone).edges[1:-1]
    for start, end in pairwise(inner):
        offsets = {moment.astimezone(zone).utcoffset() for moment in (start - TICK, start, end)}
        assert len(offsets) > 1 or end - start == BUCKETS[bucket], start.astimezone(zone)


def edges(start: str, end: str, bucket: str, zone: str) -> list[str]:
    """The inner edges as the local clock shows them."""
    series = timeline(TimeRange(parse_instant(start), parse_instant(end)), bucket, ZoneInfo(zone))
    return [edge.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z") for edge in series.edges[1:-1]]


@pytest.mark.parametrize(
    ("start", "end", "bucket", "zone", "expected"),
    [
        ("2025-06-01T10:20:30Z", "2025-06-01T13:00:30Z", "1h", "UTC",
         ["01 11:00 +0000", "01 12:00 +0000", "01 13:00 +0000"]),
        ("2025-06-01T10:20Z", "2025-06-01T12:45Z", "1h", "Asia/Kolkata",
         ["01 16:00 +0530", "01 17:00 +0530", "01 18:00 +0530"]),
        # Days of 23 and of 25 hours.
        ("2025-03-29T22:00Z", "2025-03-31T12:00Z", "1d", "Europe/Berlin",
         ["30 00:00 +0100", "31 00:00 +0200"]),
        ("2025-10-25T12:00Z", "2025-10-27T12:00Z", "1d", "Europe/Berlin",
         ["26 00:00 +0200", "27 00:00 +0100"]),
        # The hour that comes twice is two points.
        ("2025-10-25T23:30Z", "2025-10-26T02:30Z", "1h", "Europe/Berlin",
         ["26 02:00 +0200", "26 02:00 +0100", "26 03:00 +0100"]),
        # Midnight is skipped: the day begins at one.
        ("2018-11-03T12:00Z", "2018-11-05T12:00Z", "1d", "America/Sao_Paulo",
         ["04 01:00 -0200", "05 00:00 -0200"]),
        # Midnight comes twice: the day begins with the first.
        ("2025-11-01T12:00Z", "2025-11-03T12:00Z", "1d", "America/Havana",
         ["02 00:00 -0400", "03 00:00 -0500"]),
        # A whole day is skipped.
        ("2011-12-29T00:00Z", "2012-01-01T00:00Z", "1d", "Pacific/Apia",
         ["29 00:00 -1000", "31 00:00 +1400", "01 00:00 +1400"]),
        # Half an hour is skipped, half an hour comes twice.
        ("2025-10-04T14:00Z", "2025-10-04T18:00Z", "1h", "Australia/Lord_Howe",
         ["05 01:00 +1030", "05 02:30 +1100", "05 03:00 +1100", "05 04:00 +1100"]),
        ("2025-04-05T11:00Z", "2025-04-06T08:00Z", "6h", "Australia/Lord_Howe",
         ["06 00:00 +1100", "06 06:00 +1030", "06 12:00 +1030", "06 18:00 +1030"]),
    ],
)  # fmt: skip
def test_points_follow_the_local_clock(start: str, end: str, bucket: str, zone: str, expected: list[str]) -> None:
    assert edges(start, end, bucket, zone) == expected


def test_a_range_without_length_has_no_points() -> None:
    noon = parse_instant("2025-06-01T12:00:00Z")
    assert len(timeline(TimeRange(noon, noon), "1h", ZoneInfo("UTC")).edges) == 1


def test_more_points_than_anyone_can_look_at_are_refused() -> None:
    start = parse_instant("2025-06-01T00:00:00Z")
    most = TimeRange(start, start + MAX_POINTS * timedelta(minutes=1))
    assert len(timeline(most, "1m", ZoneInfo("UTC")).edges) == MAX_POINTS + 1
    with pytest.raises(InvalidInput, match="2000 points") as refusal:
        timeline(TimeRange(start, most.end + TICK), "1m", ZoneInfo("UTC"))
    assert refusal.value.field == "bucket"
    assert refusal.value.message.endswith("take a longer bucket.")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_the_cut_points_at_the_ends_count_among_those_that_are_refused(zone: str) -> None:
    start = parse_instant("2025-06-01T00:30:00Z")
    end = start + (MAX_POINTS - 1) * HOUR
    assert len(timeline(TimeRange(start, end), "1h", ZoneInfo(zone)).edges) == MAX_POINTS + 1
    with pytest.raises(InvalidInput, match="2000 points; take a longer bucket"):
        timeline(TimeRange(start, end + HOUR), "1h", ZoneInfo(zone))


def test_as_many_days_as_there_may_be_points_are_divided_also_if_one_has_25_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    last = datetime(2025, 12, 1, tzinfo=zone)
    days = TimeRange(*((last - n * timedelta(days=1)).astimezone(timezone.utc) for n in (MAX_POINTS, 0)))
    assert days.length > MAX_POINTS * timedelta(days=1)
    assert len(timeline(days, "1d", zone).edges) == MAX_POINTS + 1


@given(st.timedeltas(timedelta(), MAX_POINTS * timedelta(days=1)), ZONES)
def test_a_bucket_that_is_chosen_makes_few_points_unless_it_is_the_longest(length: timedelta, zone: ZoneInfo) -> None:
    start = parse_instant("2020-06-01T00:30:30Z")
    bucket = choose_bucket(TimeRange(start, start + length))
    assert bucket == "1d" or len(timeline(TimeRange(start, start + length), bucket, zone).edges) < 2 * POINTS_WANTED


def test_a_range_that_is_too_long_for_the_longest_bucket_is_to_be_shorter() -> None:
    start = parse_instant("2025-06-01T00:00:00Z")
    most = TimeRange(start, start + MAX_POINTS * timedelta(days=1))
    bucket = choose_bucket(most)
    assert len(timeline(most, bucket, ZoneInfo("UTC")).edges) == MAX_POINTS + 1
    with pytest.raises(InvalidInput, match="2000 points; take a shorter range") as refusal:
        timeline(TimeRange(start, most.end + TICK), bucket, ZoneInfo("UTC"))
    assert refusal.value.field == "bucket"


@pytest.mark.parametrize(
    ("hours", "bucket"),
    [(0, "1m"), (1, "1m"), (5, "5m"), (15, "15m"), (60, "1h"), (360, "6h"), (1440, "1d")],
)
def test_the_bucket_that_makes_about_sixty_points_is_chosen(hours: int, bucket: str) -> None:
    start = parse_instant("2025-06-01T00:00:00Z")
    assert choose_bucket(TimeRange(start, start + hours * HOUR)) == bucket
    assert POINTS_WANTED == 60


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("end", ["0001-01-01T00:10:00Z", "9999-12-31T23:59:59.999999Z"])
def test_the_ends_of_the_calendar_are_divided_or_refused_like_any_other_time(end: str, zone: str) -> None:
    range = TimeRange(parse_instant(end) - timedelta(minutes=10), parse_instant(end))
    for bucket in BUCKETS:
        with suppress(InvalidInput):
            edges = timeline(range, bucket, ZoneInfo(zone)).edges
            assert (edges[0], edges[-1]) == (range.start, range.end)
