"""How the pages behave: addresses that can be sent, keyboard, refresh, errors, many models, hostile names, keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from dashboard.conftest import STATE, Page
from selenium.webdriver.common.keys import Keys as Key
from sqlalchemy import Engine

from app.domain.keys import Scope
from app.presentation.services import services
from conftest import Server, make_app
from support.browser import requests_of, served

ROOT = Path(__file__).parents[2]
Log = Callable[[list[dict[str, Any]]], None]
HOSTILE = (
    '<img src=x onerror="window.hacked=1">',
    '"><script>window.hacked=1</script>',
    "'-window.hacked-'",
    "javascript:window.hacked=1",
    "{{7*7}}${7*7}%s%00",
    "a&model_version=b#c?d=e",
    "../../api/v1/models",
    "\u202eрехватчик\u202c ‮",
    "  spaces  ",
    "ж" * 150,
)


# One engine is enough here: the figures are looked at elsewhere.
pytestmark = [
    pytest.mark.usefixtures("server"),
    pytest.mark.parametrize("server", ["plain"], indirect=True, scope="session"),
]


def test_no_request_leaves_the_host(page: Page, story: str) -> None:
    requests_of(page.browser)
    for path, more in (("", {}), ("/model", {"model_name": story}), ("/explore", {})):
        page.open(path, range="7d", **more)
        requests = requests_of(page.browser)
        assert len(requests) > 8
        assert {urlsplit(url).netloc for url in requests} == {urlsplit(page.address).netloc}
        assert page.problems == []


def test_a_row_leads_to_the_page_of_its_model_over_the_same_range(page: Page, story: str) -> None:
    page.open(search=story, range="7d", zone="Asia/Tokyo")
    page.click(".col-model a")
    page.wait_for(f"location.pathname.endsWith('/model') && {STATE} === 'ready'")
    query = parse_qs(urlsplit(page.browser.current_url).query)
    assert query == {"model_name": [story], "range": ["7d"], "zone": ["Asia/Tokyo"]}
    assert page.find("h1").text == story


def test_the_bad_version_of_a_model_is_found_in_two_clicks(page: Page, story: str) -> None:
    page.open(search=story, range="7d")
    page.click(".col-model a")
    page.wait_for(f"location.pathname.endsWith('/model') && {STATE} === 'ready'")
    assert page.texts("#compare li.worse b")[0] == "2 succeeds less often than 1"
    page.click("#errors tbody .link")
    page.wait_for("document.querySelector('#prediction').open")
    assert "KeyError: 'age'" in page.find("#prediction").text


def test_an_open_prediction_is_in_the_address_and_escape_closes_it(page: Page, story: str, start: datetime) -> None:
    page.open("/explore", model_name=story, range="7d")
    link = page.find("tr[data-id] .link")
    link.send_keys(Key.ENTER)
    page.wait_for("document.querySelector('#prediction').open")
    address = page.browser.current_url
    assert "open=" in address
    text = page.find("#prediction").text
    assert '"number": 599' in text and story in text
    page.browser.get(address)
    page.wait_for("document.querySelector('#prediction').open && document.querySelector('#prediction pre')")
    assert page.find("#prediction").text == text
    page.find("#prediction-close").send_keys(Key.ESCAPE)
    page.wait_for("!document.querySelector('#prediction').open && !location.search.includes('open=')")


def test_a_refresh_changes_figures_in_place(page: Page, log: Log, story: str, start: datetime) -> None:
    page.open(search=story, range="7d")
    page.run("document.querySelector('tbody tr:not(.gap)').dataset.mark = 'mine'")
    page.run("document.querySelector('.col-model a').focus()")
    log([{"model_name": story, "duration_ms": 1, "was_successful": True, "timestamp": start.isoformat()}])
    page.browser.switch_to.active_element.send_keys("r")
    page.wait_for("document.querySelector('td.col-predictions').dataset.value === '601'")
    assert page.run("return document.querySelector('tbody tr:not(.gap)').dataset.mark") == "mine"
    assert page.run("return document.activeElement.textContent") == story, "the focus stays"


@pytest.mark.parametrize(
    ("path", "selector"),
    [
        ("/explore", "tr[data-id] .link"),
        ("/explore", "#predictions .scroll"),
        ("/model", "#versions .scroll"),
        ("/model", "#errors .scroll"),
        ("/model", "#errors .link"),
        ("/model", "#failed .link"),
        ("/model", "#slowest .link"),
        ("/model", "#slowest a"),
    ],
)
def test_what_has_the_focus_in_a_list_keeps_it_over_a_refresh(page: Page, story: str, path: str, selector: str) -> None:
    page.open(path, model_name=story, range="7d")
    page.run("document.querySelector(arguments[0]).focus()", selector)
    page.run("window.before = document.activeElement")
    page.browser.switch_to.active_element.send_keys("r")
    page.wait_for(f"!window.before.isConnected && {STATE} === 'ready'")
    assert page.run("return document.activeElement === document.querySelector(arguments[0])", selector)
    found = page.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(found) == len(set(found))


def test_an_older_address_that_sorts_by_calls_sorts_by_predictions(page: Page, story: str) -> None:
    page.open(search=story, range="7d", sort="-calls")
    assert page.find(".col-predictions[aria-sort]").get_attribute("aria-sort") == "descending"
    page.click("#sort-predictions")
    assert page.find(".col-predictions[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_a_slash_leads_to_the_search(page: Page, story: str) -> None:
    page.open()
    page.find("body").send_keys("/")
    assert page.run("return document.activeElement.id") == "search"
    page.find("#search").send_keys(story[:20].upper())
    assert page.texts(".col-model a") == [story]
    assert story[:20].upper() in page.browser.current_url


def test_the_field_for_a_search_has_what_the_address_says(page: Page, story: str) -> None:
    page.open(search=story[:6])
    page.click("#range-1h")
    page.wait_for(f"location.search.includes('1h') && {STATE} === 'ready'")
    page.find("#search").clear()
    page.find("#search").send_keys("another")
    page.browser.back()
    page.wait_for(f"!location.search.includes('1h') && {STATE} === 'ready'")
    assert page.find("#search").get_attribute("value") == story[:6]


@pytest.fixture
def phone(page: Page) -> Iterator[None]:
    """A narrow page."""
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.usefixtures("phone")
@pytest.mark.parametrize("table", ["#versions", "#errors", "#failed", "#slowest"])
def test_a_table_that_was_scrolled_on_a_phone_stays_there_over_a_refresh(page: Page, story: str, table: str) -> None:
    page.open("/model", model_name=story, range="7d")
    scroller = f"document.querySelector('{table} .scroll')"
    page.run(f"window.before = {scroller}; before.scrollLeft = 40")
    assert page.run("return before.scrollLeft") == 40
    page.press("r")
    page.wait_for(f"{STATE} === 'ready' && !before.isConnected")
    assert page.run(f"return {scroller}.scrollLeft") == 40


RULE = {"name": "slow p95", "condition": "p95 > 1", "for_s": 0, "models": ["*"]}
ALERT = {"model_name": "a model", "state": "ok", "since": "2026-01-01T00:00:00+00:00", "measured": "1 ms"}
EVENT = {"id": 7, "at": ALERT["since"], "rule": RULE["name"], "messages": []}


@pytest.mark.parametrize("entry", ["#errors tbody .link", "#versions tbody a"])
def test_an_entry_of_a_model_keeps_the_focus_through_a_refresh(page: Page, story: str, entry: str) -> None:
    page.open("/model", model_name=story, range="7d")
    assert_focus_stays(page, entry)


@pytest.mark.parametrize("entry", ["#rules tbody a", "#history tbody a"])
def test_an_entry_of_the_alerts_keeps_the_focus_through_a_refresh(page: Page, entry: str) -> None:
    history = page.answered("/api/v1/alerts/history", [ALERT | EVENT])
    with page.answered("/api/v1/alerts", {"enabled": True, "rules": [RULE | {"alerts": [ALERT]}]}), history:
        page.open("/alerts")
        assert_focus_stays(page, entry)


def assert_focus_stays(page: Page, entry: str) -> None:
    element = page.find(entry)
    page.run("(window.before = arguments[0]).focus()", element)
    text = element.text
    page.press("r")
    page.wait_for(f"{STATE} === 'ready' && !window.before.isConnected")
    assert page.run("return document.activeElement.textContent") == text


def test_another_range_is_in_the_address_and_back_leads_back(page: Page, story: str) -> None:
    page.open(search=story, range="7d")
    page.click("#range-1h")
    page.wait_for("document.querySelector('td.col-predictions').dataset.value === '0'")
    assert "range=1h" in page.browser.current_url
    page.browser.back()
    page.wait_for("document.querySelector('td.col-predictions')?.dataset.value === '600'")


def test_a_range_can_be_typed_in_the_clock_of_any_zone(page: Page, story: str, start: datetime) -> None:
    page.open(search=story, range="7d")
    page.click("#range-custom")
    page.run(
        "const set = (id, value) => (document.getElementById(id).value = value);"
        "set('custom-from', arguments[0]); set('custom-to', arguments[1]); set('custom-zone', 'Asia/Kathmandu');"
        "document.querySelector('#custom form').requestSubmit()",
        f"{start:%Y-%m-%d}T15:45", f"{start:%Y-%m-%d}T16:45",
    )  # fmt: skip
    page.wait_for(f"location.search.includes('Kathmandu') && {STATE} === 'ready'")
    assert [datetime.fromisoformat(bound) for bound in page.counted.values()] == [start, start + timedelta(hours=1)]
    page.run("localStorage.removeItem('predlog-zone')")


def test_the_open_panel_has_the_range_that_is_shown(page: Page) -> None:
    page.open("/explore", range="24h", zone="UTC")
    page.click("#range-custom")
    page.click("#range-1h")
    page.wait_for(f"location.search.includes('1h') && {STATE} === 'ready'")
    shown = [bound[:16] for bound in page.counted.values()]
    assert page.run(TYPED) == shown


@pytest.mark.parametrize("button", ["#live", "#theme"])
def test_a_range_that_is_being_typed_outlasts_a_refresh_and_a_change_of_the_theme(page: Page, button: str) -> None:
    page.open("/explore", range="24h", zone="UTC")
    page.click("#range-custom")
    page.run("document.querySelector('#custom-from').focus()")
    page.find("#custom-from").send_keys("01022026")
    typed = page.run(TYPED)
    assert typed[0].startswith("2026-01-02")
    page.click(button)
    page.wait_for(f"{STATE} === 'ready'")
    assert page.run(TYPED) == typed
    page.run("localStorage.removeItem('predlog-theme')")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "2025-06-02", "to": "2025-06-01"}, "Must not be after the end of the range."),
        ({"zone": "Mars/Phobos"}, "Not a time zone"),
        ({"from": "yesterday", "to": "2025-06-01"}, "Not a valid ISO 8601"),
    ],
)
def test_what_the_api_refuses_is_said_in_its_words(page: Page, query: dict[str, str], said: str) -> None:
    page.browser.get(f"{page.address}/dashboard?{'&'.join(f'{name}={value}' for name, value in query.items())}")
    page.wait_for(f"{STATE} === 'failed'")
    assert said in page.find("#notice").text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("new Response('<html>log in</html>')", "This answer is not from Predlog"),
        ("new Response('<html>bad gateway</html>', {status: 502})", "The service answered 502."),
        ("new Response(new ReadableStream({start: stream => stream.error(new TypeError())}))", "does not answer"),
    ],
)
def test_an_answer_that_is_not_of_the_api_is_told_from_an_error_of_the_page(
    page: Page, story: str, answer: str, said: str
) -> None:
    page.open("/explore", model_name=story, range="7d")
    page.run(f"window.fetch = () => Promise.resolve({answer})")
    page.find("body").send_keys("r")
    page.wait_for(f"{STATE} === 'failed'")
    assert said in page.find("#notice").text
    assert page.problems == []


def test_what_was_shown_stays_while_the_service_is_away(page: Page, story: str) -> None:
    page.open(search=story, range="7d")
    page.browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.browser.switch_to.active_element.send_keys("r")
        page.wait_for(f"{STATE} === 'failed'")
        assert "The service does not answer." in page.find("#notice").text
        assert page.values("td.col-predictions") == [600]
    finally:
        page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    page.click("#notice button")
    page.wait_for(f"{STATE} === 'ready' && !document.querySelector('#notice').textContent")


def statuses(page: Page, name: str) -> list[str]:
    """What the overview and the page of a model say of it."""
    page.open(search=name, range="7d")
    of_overview = page.texts("td.col-status")
    page.open("/model", model_name=name, range="7d")
    return of_overview + page.texts("#status")


def version_seen(name: str, last_seen: datetime, within: timedelta = timedelta(0), **more: Any) -> dict[str, Any]:
    """A version as /models lists it, last seen so long at most after an instant."""
    seen = {"first_seen": last_seen.isoformat(), "last_seen": last_seen.isoformat()}
    version = {"model_name": name, "model_version": None, "silent": False}
    return version | seen | {"last_seen_within_s": within.total_seconds()} | more


def test_both_pages_say_that_a_model_has_a_single_prediction(page: Page, log: Log, start: datetime) -> None:
    name = f"once-{uuid4().hex}"
    log([{"model_name": name, "duration_ms": 1, "was_successful": True, "timestamp": start.isoformat()}])
    assert statuses(page, name) == ["One prediction", "One prediction"]


def test_both_pages_say_the_same_of_a_model_whose_last_rows_are_gone(page: Page, story: str) -> None:
    seen = datetime.now(timezone.utc) - timedelta(hours=5, minutes=30)
    version = version_seen(story, seen, timedelta(hours=2), silent=True)
    with page.answered("/api/v1/models?", [version]):
        assert statuses(page, story) == ["Silent for 3 h", "Silent for 3 h"]


def test_an_active_model_sorts_below_silent_ones_if_the_clock_of_the_browser_is_behind(page: Page, log: Log) -> None:
    mark, now = uuid4().hex, datetime.now(timezone.utc)
    names = [f"{mark}-{kind}" for kind in ("silent", "active")]
    log([{"model_name": name, "duration_ms": 1, "was_successful": True} for name in names])
    silent = version_seen(names[0], now - timedelta(hours=5), silent=True)
    active = version_seen(names[1], now + timedelta(minutes=10))
    with page.answered("/api/v1/models?", [silent, active]):
        page.open(search=mark, sort="-status")
        assert page.texts(".col-model a") == names
        page.open(search=mark, sort="status")
        assert page.texts(".col-model a") == names[::-1]


TYPED = "return ['from', 'to'].map(name => document.getElementById(`custom-${name}`).value)"


@pytest.fixture
def releases(log: Log, start: datetime) -> str:
    """A model with predictions without a version, then of v2, then of v3; its name."""
    name = f"releases-{uuid4().hex}"
    prediction = {"model_name": name, "duration_ms": 1, "was_successful": True}
    for hours, version in enumerate([None, "v2", "v3"]):
        log([prediction | {"model_version": version, "timestamp": (start + timedelta(hours=hours)).isoformat()}])
    return name


@pytest.mark.parametrize(
    ("chosen", "label", "compared"),
    [
        ({}, "Compare with no version", "v3 against no version"),
        ({}, "Compare  no version", "no version against v2"),
        ({}, "Compare  v2", "v2 against v3"),
        ({}, "Compare with v3", "v2 against v3"),
        ({"against": "week"}, "Compare  v2", "v2 against v3"),
        ({"against": "week"}, "Compare with v3", "v2 against v3"),
        ({"a": "v2", "b": ""}, "Compare with no version", "v2 against no version"),
    ],
)
def test_any_two_versions_can_be_compared(
    page: Page, releases: str, chosen: dict[str, str], label: str, compared: str
) -> None:
    page.open("/model", model_name=releases, range="7d", **chosen)
    page.click(f"input[aria-label='{label}']")
    page.wait_for(f"!location.search.includes('against') && {STATE} === 'ready'")
    assert page.texts("#compare h2") == [compared]
    assert page.texts("#compare .verdict li")
    sides = page.run("return [...document.querySelectorAll('#versions input:checked')].map(e => e.ariaLabel)")
    show, against = compared.split(" against ")
    assert sorted(sides) == sorted([f"Compare  {show}", f"Compare with {against}"])


def test_a_version_is_not_compared_with_itself(page: Page, releases: str) -> None:
    page.open("/model", model_name=releases, range="7d", a="v3", b="v3")
    assert page.texts("#compare h2") == ["v3 against v2"]
    page.open("/model", model_name=releases, range="7d", a="v3")
    assert page.texts("#compare h2") == ["v2 against v3"]
    page.open("/model", model_name=releases, range="1h", a="v3")
    assert not page.find("#compare").is_displayed(), "there is no other version"


TOO_FINE = {"errors": {"query": {"bucket": ["Of this range only longer buckets than 15m are kept."]}}}
TOO_FINE_SAID = "bucket: Of this range only longer buckets than 15m are kept."


def test_without_trends_the_overview_has_all_else(page: Page, story: str) -> None:
    with page.answered("bucket=auto", TOO_FINE, 422):
        page.open(search=story, range="7d")
        assert page.values("td.col-predictions") == [600]
        assert page.texts("td.col-status")[0].startswith("Silent for")
        assert page.texts("#no-trends") == [f"No predictions over time: {TOO_FINE_SAID}"]
    page.press("r")
    page.wait_for(f"{STATE} === 'ready' && !document.querySelector('#no-trends').textContent")
    assert page.run("return document.querySelector('.spark-all').getAttribute('d')")
    with page.answered("bucket=auto", TOO_FINE, 422):
        page.click("#range-30d")
        page.wait_for("document.querySelector('#no-trends').textContent")
        page.wait_for(f"{STATE} === 'ready'")
        assert not page.run("return document.querySelector('.spark-all').getAttribute('d')"), "it was of another range"


@pytest.mark.parametrize(
    ("part", "query", "without"),
    [
        ("timeseries", {"version": "2"}, {"predictions", "latency"}),
        ("histogram", {"version": "2"}, {"heat", "distribution"}),
        ("timeseries", {}, {"predictions", "latency"}),
        ("histogram", {}, {"heat", "distribution"}),
        ("compare", {}, set()),
    ],
)
def test_a_chart_that_cannot_be_had_says_why_and_the_others_are_shown(
    page: Page, story: str, part: str, query: dict[str, str], without: set[str]
) -> None:
    charts = ("predictions", "latency", "heat", "distribution")
    told = "return arguments[0].filter(id => document.getElementById(id).innerText.includes(arguments[1]))"
    drawn = "return arguments[0].filter(id => document.getElementById(id).querySelector('canvas').checkVisibility())"
    page.open("/model", model_name=story, range="7d", **query)
    with page.answered(f"/stats/{part}", TOO_FINE, 422):
        page.click("#range-30d")
        page.wait_for(f"location.search.includes('30d') && {STATE} !== 'loading'")
        assert page.run(f"return {STATE}") == "ready"
        assert set(page.run(told, charts, TOO_FINE_SAID)) == without
        assert set(page.run(drawn, charts)) == set(charts) - without
        assert (TOO_FINE_SAID in page.texts("#compare")[0]) == (part == "compare")
        if part == "compare":
            page.click("#against-Week-before")
            page.wait_for(f"location.search.includes('week') && {STATE} === 'ready'")
    page.press("r")
    page.wait_for(f"{STATE} === 'ready' && !document.body.innerText.includes({json.dumps(TOO_FINE_SAID)})")
    assert page.run(drawn, charts) == list(charts)


def test_of_a_thousand_models_only_the_rows_in_view_are_in_the_page(page: Page, database: Engine) -> None:
    mark = uuid4().hex
    statement = """INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
                   SELECT now() - INTERVAL '2 days', %(mark)s || '-' || lpad(n::text, 4, '0'), n, true
                   FROM   generate_series(1, 1200) AS n"""
    with database.connect() as connection:
        connection.exec_driver_sql(statement, {"mark": mark})
    page.open(search=mark, range="7d", sort="model")
    page.wait_for("document.querySelector('table.long').getAttribute('aria-rowcount') === '1201'")
    assert 10 < len(page.texts(".col-model a")) < 80
    page.run("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for(f"[...document.querySelectorAll('.col-model a')].at(-1).textContent === '{mark}-1200'")
    assert len(page.texts(".col-model a")) < 80
    page.wait_for("[...document.querySelectorAll('.spark-all')].at(-1).getAttribute('d') !== null")
    page.click("#sort-p50")
    page.run("scrollTo(0, 0)")
    page.wait_for(f"document.querySelector('.col-model a').textContent === '{mark}-1200'")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_or_error_is_text_and_nothing_else(page: Page, log: Log, start: datetime, name: str) -> None:
    mark = uuid4().hex
    model, record = f"{mark}{name}", {"duration_ms": 5, "timestamp": start.isoformat()}
    log(
        [
            {
                **record,
                "model_name": model,
                "model_version": name,
                "was_successful": False,
                "error": name,
                "metadata": {name: name},
            },
            {**record, "model_name": model, "model_version": f"{name}2", "was_successful": True},
        ]
    )
    page.open(search=mark, range="7d")
    assert page.texts(".col-model a") == [model]
    page.click(".col-model a")
    page.wait_for(f"location.pathname.endsWith('/model') && {STATE} === 'ready'")
    assert page.texts("h1") == [model]
    assert page.values("[data-figure='Predictions']") == [2]
    assert sorted(page.texts("#versions tbody th")) == sorted([name, f"{name}2"])
    page.click("#failed tbody .link")
    page.wait_for("document.querySelector('#prediction pre') !== null")
    assert page.texts("#prediction pre.error") == [name]
    assert json.loads(page.texts("#prediction pre")[-1]) == {name: name}
    page.open("/explore", model_name=model, model_version=name, range="7d")
    assert page.texts(".error-text") == [name]
    assert page.run("return window.hacked") is None
    assert page.problems == []


def test_explore_keeps_the_filter_for_no_version_until_it_is_taken_out(page: Page, log: Log, start: datetime) -> None:
    name = f"unversioned-{uuid4().hex}"
    record = {"model_name": name, "duration_ms": 5, "timestamp": start.isoformat()}
    versions = (None, True), (None, False), ("1", False)
    log([{**record, "model_version": version, "was_successful": success} for version, success in versions])
    page.open("/explore", model_name=name, model_version="", range="7d")
    assert page.texts("td.version") == ["–", "–"]
    page.run(
        "const outcome = document.querySelector('#was_successful');"
        "outcome.value = 'false'; outcome.dispatchEvent(new Event('change'))"
    )
    page.wait_for(f"location.search.includes('was_successful=false') && {STATE} === 'ready'")
    assert page.texts("td.version") == ["–"]
    page.click("#no_version")
    page.wait_for(f"!location.search.includes('model_version') && {STATE} === 'ready'")
    assert sorted(page.texts("td.version")) == ["1", "–"]
    page.click("#no_version")
    page.wait_for(f"new URLSearchParams(location.search).get('model_version') === '' && {STATE} === 'ready'")
    assert page.texts("td.version") == ["–"]


def test_without_alerts_the_page_says_how_to_set_them_up(page: Page) -> None:
    page.open("/alerts")
    assert "ALERTS_FILE" in page.find("#rules").text
    assert page.problems == []


def test_alerts_that_are_still_shown_are_said_to_be_older(page: Page) -> None:
    page.open("/alerts")
    with page.answered("/api/v1/alerts", {"message": "The database is away."}, 503):
        page.press("r")
        page.wait_for(f"{STATE} === 'failed'")
        assert page.texts("#notice strong") == ["Not refreshed: what you see is older."]
        page.browser.refresh()
        page.wait_for(f"{STATE} === 'failed'")
        assert page.texts("#notice strong") == ["Nothing can be shown."]


def test_if_keys_exist_the_page_asks_for_one_and_keeps_it_in_the_tab(
    browser: Any, server: Server, database: Engine, story: str
) -> None:
    app = make_app(server.url, auth="keys", pool_size=8 if server.concurrent else 1)
    with app.app_context():
        keys = {scope: services().keys.create(scope.value, scope)[1] for scope in (Scope.READ, Scope.WRITE)}
    try:
        with served(app) as address:
            page = Page(browser, address)
            browser.get(f"{address}/dashboard?search={story}&range=7d")
            for sent in ("nonsense", keys[Scope.READ]):
                page.wait_for("document.querySelector('#key').open && document.querySelector('#key-field') !== null")
                page.find("#key-field").send_keys(sent + Key.ENTER)
                page.wait_for("!document.querySelector('#key').open || document.querySelector('#key-problem')")
            page.wait_for(f"{STATE} === 'ready'")
            assert page.values("td.col-predictions") == [600]
            kept = page.run(
                "return [sessionStorage, localStorage, document.cookie, location.href].map(e => JSON.stringify(e))"
            )
            assert [keys[Scope.READ] in place for place in kept] == [True, False, False, False]
            page.run("sessionStorage.setItem('predlog-key', arguments[0])", keys[Scope.WRITE])
            browser.refresh()
            page.wait_for(f"{STATE} === 'failed'")
            assert "needs a key with scope read" in page.find("#notice").text
    finally:
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM api_key")


def test_an_expired_key_is_told_until_there_is_another(page: Page, story: str) -> None:
    page.open(search=story, range="7d")
    with page.answered("/api/v1/", {"message": "This key has expired."}, 401):
        page.press("r")
        page.wait_for("document.querySelector('#key').open")
        page.press(Key.ESCAPE)
        page.wait_for("!document.querySelector('#key').open")
        notice = "Not refreshed: what you see is older. This key has expired. Try againUse another key"
        assert page.texts("#notice") == [notice]
        page.run("window.delays = []; window.setTimeout = (_, delay) => window.delays.push(delay)")
        page.click("#live")
        page.wait_for(f"{STATE} === 'failed'")
        assert page.run("return window.delays") == [30_000], "it looks again"
        assert not page.run("return document.querySelector('#key').open"), "it has asked for a key already"
        page.click("#notice button:last-child")
        assert page.run("return document.querySelector('#key').open")
    page.find("#key-field").send_keys("another" + Key.ENTER)
    page.wait_for(f"{STATE} === 'ready' && !document.querySelector('#notice').textContent")
    page.run("sessionStorage.removeItem('predlog-key')")


def test_a_key_that_is_being_typed_outlasts_a_refresh(page: Page) -> None:
    with page.answered("/api/v1/", {"message": "No key."}, 401):
        page.browser.get(f"{page.address}/dashboard")
        page.wait_for("document.querySelector('#key').open")
        page.find("#key-field").send_keys("half")
        page.run("document.querySelector('#live').click()")
        page.wait_for(f"{STATE} === 'failed'")
        assert page.run("return document.querySelector('#key-field').value") == "half"


def test_a_tab_that_is_seen_again_refreshes_unless_it_is_paused(page: Page) -> None:
    page.open()
    seen_again = f"document.dispatchEvent(new Event('visibilitychange')); return {STATE}"
    assert page.run(seen_again) == "ready"
    page.click("#live")
    page.wait_for(f"{STATE} === 'ready'")
    assert page.run(seen_again) == "loading"


@pytest.mark.parametrize("lines", ["shell", "python"])
def test_the_lines_of_the_first_visit_work_when_pasted(browser: Any, fresh_service: int, lines: str) -> None:
    page = Page(browser, f"http://127.0.0.1:{fresh_service}")
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": "0"})
    page.open()
    text = page.texts(f"#snippet-{lines}")[0]
    assert len(text.splitlines()) == 3
    command = ["bash", "-c", text] if lines == "shell" else [sys.executable, "-c", text]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client/src"), "NO_PROXY": "*"}
    subprocess.run(command, check=True, timeout=60, env=environment, capture_output=True)
    page.browser.switch_to.active_element.send_keys("r")
    page.wait_for("document.querySelector('.col-model a')?.textContent === 'my_model'")
    assert page.values("td.col-predictions") == [1]


def test_over_years_each_model_has_its_line(page: Page, log: Log, start: datetime) -> None:
    name = f"years-{uuid4().hex}"
    log([
        {"model_name": f"{name}-{number:02}", "duration_ms": 1, "was_successful": True, "timestamp": start.isoformat()}
        for number in range(60)
    ])  # fmt: skip
    page.open(search=name, zone="UTC", **{"from": (start - timedelta(days=1990)).isoformat(), "to": start.isoformat()})
    page.wait_for("document.querySelectorAll('.spark-all').length > 24")
    page.wait_for("[...document.querySelectorAll('.spark-all')].every(e => e.getAttribute('d'))")
    assert page.problems == []
