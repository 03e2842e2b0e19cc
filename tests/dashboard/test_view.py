"""What an address means: view.js, asked for in the browser without any figures."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dashboard.conftest import Page

# On these days, or in the week before, some clock is set back or forward; on the last none is.
FIRST_DAYS = ("2026-10-29", "2026-11-01", "2026-10-25", "2026-03-31", "2026-04-05", "2026-06-10")

# One engine is enough here: nothing is asked of the service.
pytestmark = [
    pytest.mark.usefixtures("server"),
    pytest.mark.parametrize("server", ["plain"], indirect=True, scope="session"),
]


def module(page: Page, name: str, expression: str, *arguments: Any) -> Any:
    """The value of an expression with the exports of one module of the page, as `m`."""
    script = f"""const [args, done] = arguments;
    import(document.querySelector('script[type=module]').src.replace(/[^/]+$/, '{name}'))
      .then(m => {expression}).then(done, error => done(String(error)))"""
    return page.browser.execute_async_script(script, arguments)


def earlier(page: Page, days: int, start: datetime, end: datetime) -> list[datetime]:
    bounds = {"from": start.isoformat(), "to": end.isoformat()}
    found = module(page, "view.js", "m.earlier(args[0], args[1])", bounds, days)
    return [datetime.fromisoformat(found[name]) for name in ("from", "to")]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_a_week_before_is_the_same_days_of_the_zones_clock(page: Page, zone: str) -> None:
    place = ZoneInfo(zone)
    page.open("/alerts", zone=zone)
    for first, length in product(FIRST_DAYS, (1, 3, 7)):
        start, end = (datetime.fromisoformat(first) + timedelta(days=shift) for shift in (0, length))
        before = [(bound - timedelta(days=7)).replace(tzinfo=place) for bound in (start, end)]
        assert earlier(page, 7, start.replace(tzinfo=place), end.replace(tzinfo=place)) == before, (first, length)


def test_a_week_before_ends_after_it_begins_if_the_clock_left_that_hour_out(page: Page) -> None:
    page.open("/alerts", zone="Europe/Berlin")
    start = datetime(2026, 4, 5, 2, 50, tzinfo=ZoneInfo("Europe/Berlin"))
    first, last = earlier(page, 7, start, start + timedelta(minutes=15))
    assert last - first == timedelta(minutes=15)


def test_the_time_before_is_as_long_as_the_range(page: Page) -> None:
    page.open("/alerts", zone="Europe/Berlin")
    start = datetime(2026, 10, 24, 22, tzinfo=timezone.utc)
    assert earlier(page, 0, start, start + timedelta(hours=25)) == [start - timedelta(hours=25), start]
