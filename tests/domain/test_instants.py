"""Ranges of time, and how people write instants and days."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidInput
from app.domain.instants import (
    DAY,
    EPOCH,
    FIRST,
    HOUR,
    LAST,
    MINUTE,
    TimeRange,
    ceiling,
    floor,
    local_midnight,
    parse_bound,
    parse_instant,
    parse_query_zone,
    parse_zone,
)

UTC = timezone.utc
WIDTHS = st.sampled_from([MINUTE, HOUR, DAY])
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
SOON = st.integers(0, 10_000).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
RANGES = st.tuples(SOON, SOON).map(lambda ends: TimeRange(min(ends), max(ends)))


@given(INSTANTS, WIDTHS)
def test_floor_and_ceiling_are_the_closest_multiples_on_either_side(instant: datetime, width: timedelta) -> None:
    below, above = floor(instant, width), ceiling(instant, width)
    assert below <= instant <= above
    assert (below - EPOCH) % width == (above - EPOCH) % width == timedelta()
    assert above - below == (timedelta() if below == instant else width)


@given(RANGES, st.lists(RANGES, max_size=5), SOON)
def test_a_range_minus_holes_has_the_instants_of_no_hole(
    whole: TimeRange, holes: list[TimeRange], instant: datetime
) -> None:
    left = list(whole.minus(sorted(hole for hole in holes if hole)))

    def has(time_range: TimeRange) -> bool:
        return time_range.start <= instant < time_range.end

    assert any(map(has, left)) == (has(whole) and not any(map(has, holes)))
    assert all(left), "no part is empty"
    assert all(a.end < b.start for a, b in pairwise(left)), "in order, and none touches the next"


@given(RANGES, RANGES)
def test_ranges_overlap_if_their_intersection_is_not_empty(a: TimeRange, b: TimeRange) -> None:
    assert a.overlaps(b) == b.overlaps(a) == bool(a.intersection(b))


def test_a_range_that_ends_where_another_begins_does_not_overlap_it() -> None:
    middle = EPOCH + HOUR
    assert not TimeRange(EPOCH, middle).overlaps(TimeRange(middle, middle + HOUR))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-06-09T12:00:00", "2025-06-09T12:00:00+00:00"),
        ("2025-06-09T12:00:00Z", "2025-06-09T12:00:00+00:00"),
        ("2025-06-09t12:00:00z", "2025-06-09T12:00:00+00:00"),
        ("2025-06-09 12:00", "2025-06-09T12:00:00+00:00"),
        ("2025-06-09T12:00:00.5", "2025-06-09T12:00:00.500000+00:00"),
        ("2025-06-09T12:00:00,5Z", "2025-06-09T12:00:00.500000+00:00"),
        ("2025-06-09T12:00:00.123456789Z", "2025-06-09T12:00:00.123457+00:00"),
        ("2025-12-31T23:59:59.9999999Z", "2026-01-01T00:00:00+00:00"),
        ("2025-06-09T12:00:00+02:00", "2025-06-09T10:00:00+00:00"),
        ("2025-06-09T12:00:00+0530", "2025-06-09T06:30:00+00:00"),
        ("2025-06-09T12:00:00-03", "2025-06-09T15:00:00+00:00"),
        ("2024-02-29T00:00:00+14:00", "2024-02-28T10:00:00+00:00"),
        ("2000-01-01T00:00:00-00:00", "2000-01-01T00:00:00+00:00"),
    ],
)
def test_iso_8601_is_read_in_its_usual_spellings(text: str, expected: str) -> None:
    assert parse_instant(text).isoformat() == expected
    assert parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "now", "1749470400", "2025-06-09", "2025-06-09T12", "2025-06-09T12:00.5", "20250609T120000",
        "2025-W24-1T12:00:00", "2025-160T12:00:00", "2025-06-09T12:00:00Z ", " 2025-06-09T12:00:00Z",
        "2025-06-09T12:00:00Z\n", "2025-06-09T12:00:00 02:00", "２025-06-09T12:00:00", "2025-13-01T00:00:00",
        "2025-02-29T00:00:00", "2025-06-09T24:00:01", "2025-06-09T12:60:00", "2025-06-09T12:00:60",
        "2025-06-09T12:00:00+25:00", "2025-06-09T12:00:00+02:60", "2025-06-09T12:00:00+05:99", "0000-01-01T00:00:00",
        "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.9999999Z",
        "10000-01-01T00:00:00",
        "-2025-06-09T12:00:00",
    ],
)  # fmt: skip
def test_an_invalid_instant_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Not a valid .*\.$"):
        parse_instant(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_read_back_as_it_was_written(instant: datetime) -> None:
    assert parse_instant(instant.isoformat()) == instant


@pytest.mark.parametrize(
    ("day", "zone", "expected"),
    [
        ("2025-06-09", "UTC", "2025-06-09T00:00:00+00:00"),
        ("2025-06-09", "Europe/Berlin", "2025-06-08T22:00:00+00:00"),
        ("2025-06-09", "Asia/Kolkata", "2025-06-08T18:30:00+00:00"),
        # The clock skips midnight: the day begins at one o'clock.
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00+00:00"),
        # Midnight comes twice: the day begins with the first.
        ("2025-11-02", "America/Havana", "2025-11-02T04:00:00+00:00"),
        # The whole day was skipped: its end is its beginning.
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00+00:00"),
        ("2011-12-31", "Pacific/Apia", "2011-12-30T10:00:00+00:00"),
    ],
)
def test_a_local_day_begins_at_its_first_instant(day: str, zone: str, expected: str) -> None:
    assert local_midnight(date.fromisoformat(day), ZoneInfo(zone)).isoformat() == expected


def test_a_date_stands_for_the_whole_day() -> None:
    start = parse_bound("from", "2025-06-09", UTC, is_end=False)
    end = parse_bound("to", "2025-06-09", UTC, is_end=True)
    assert (start, end) == (datetime(2025, 6, 9, tzinfo=UTC), datetime(2025, 6, 10, tzinfo=UTC))


def test_an_instant_is_taken_as_it_is_at_either_end_and_in_any_zone() -> None:
    for is_end in (False, True):
        bound = parse_bound("to", "2025-06-09T12:00:00", ZoneInfo("Asia/Tokyo"), is_end=is_end)
        assert bound == datetime(2025, 6, 9, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "is_end"),
    [
        ("2025-02-30", "UTC", False),
        ("2025-6-9", "UTC", False),
        ("yesterday", "UTC", True),
        ("", "UTC", False),
        ("10000-01-01", "UTC", False),
        ("0000-01-01", "UTC", False),
    ],
)
def test_a_bound_that_cannot_be_read_names_its_field(text: str, zone: str, is_end: bool) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_bound("from_date", text, ZoneInfo(zone), is_end=is_end)
    assert refusal.value.field == "from_date"


@pytest.mark.parametrize(
    ("text", "zone", "is_end", "expected"),
    [
        ("9999-12-31", "UTC", True, LAST),
        ("9999-12-31", "America/New_York", True, LAST),
        ("9999-12-31", "Asia/Tokyo", True, LAST),
        ("9999-12-31T23:59:59-01:00", "UTC", True, LAST),
        ("9999-12-31T23:59:59.9999999Z", "UTC", False, LAST),
        ("0001-01-01", "Asia/Tokyo", False, FIRST),
        ("0001-01-01", "America/New_York", False, datetime(1, 1, 1, 4, 56, 2, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", "UTC", False, FIRST),
    ],
)
def test_a_bound_at_the_ends_of_the_calendar_is_the_nearest_moment_that_there_is(
    text: str, zone: str, is_end: bool, expected: datetime
) -> None:
    assert parse_bound("from", text, ZoneInfo(zone), is_end=is_end) == expected


@given(st.dates(), st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati", "Pacific/Apia"]))
def test_every_day_of_the_calendar_can_be_asked_for(day: date, name: str) -> None:
    zone = ZoneInfo(name)
    start, end = (parse_bound("from", day.isoformat(), zone, is_end=is_end) for is_end in (False, True))
    assert FIRST <= start <= end <= LAST


@given(st.datetimes(), st.sampled_from(["02:00", "0200", "02", "00:00"]))
def test_a_plus_that_was_not_encoded_is_read_as_one(wall: datetime, offset: str) -> None:
    sent, meant = (f"{wall.isoformat()}{sign}{offset}" for sign in " +")
    assert parse_bound("from", sent, UTC, is_end=False) == parse_bound("from", meant, UTC, is_end=False)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2025-06-01T00:00:00%2B02:00", "encoded twice"),
        ("2025-06-01T00:00:00  02:00", "%2B"),
        ("1749470400", "seconds since 1970"),
        ("1749470400000", "milliseconds since 1970"),
        ('"2025-06-09"', "without quotes"),
        ("09.06.2025", "as in 2025-06-09"),
        ("6/9/2025", "as in 2025-06-09"),
        ("20250609", "as in 2025-06-09"),
        ("2025/06/09", "as in 2025-06-09"),
        ("2025-6-9", "as in 2025-06-09"),
        ("2025-06", "as in 2025-06-09"),
        ("2025-06-09T12", "2025-06-09T12:00:00Z"),
        (" 2025-06-09", "without spaces"),
    ],
)
def test_a_common_slip_is_told_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_bound("from", text, UTC, is_end=False)
    assert hint in refusal.value.message


def test_a_body_has_no_plus_to_lose() -> None:
    with pytest.raises(ValueError, match="Not a valid"):
        parse_instant("2025-06-09T12:00:00 02:00")


@pytest.mark.parametrize("name", ["Etc/GMT+2", "Etc/GMT 2"])
def test_the_plus_of_a_zone_is_read_in_a_query(name: str) -> None:
    assert parse_query_zone(name).utcoffset(datetime(2025, 1, 1)) == timedelta(hours=-2)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/", ".", "..", "zone.tab", "é"]
)
def test_a_zone_that_does_not_exist_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="Not a time zone"):
        parse_zone(name)
