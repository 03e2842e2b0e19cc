"""Explore: one list at a time, whatever answers late or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from dashboard.conftest import STATE, Page

ROWS = "document.querySelectorAll('tr[data-id]').length"

# One engine is enough here: the figures are looked at elsewhere.
pytestmark = [
    pytest.mark.usefixtures("server"),
    pytest.mark.parametrize("server", ["plain"], indirect=True, scope="session"),
]


def press(page: Page, key: str) -> None:
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", key)


def choose_version(page: Page, version: str) -> None:
    page.run("document.querySelector('#model_version').value = arguments[0]", version)
    page.run("document.querySelector('#filters').requestSubmit()")


def ids(page: Page) -> list[int]:
    return [
        int(each) for each in page.run("return [...document.querySelectorAll('tr[data-id]')].map(e => e.dataset.id)")
    ]


def test_older_predictions_of_another_filter_are_dropped(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, model_version="1", range="7d")
    page.hold("cursor=")
    page.click("#more")
    choose_version(page, "2")
    page.wait_for(f"{STATE} === 'ready'")
    page.release()
    assert page.texts("td.version") == ["2"] * 100
    page.click("#more:not([disabled])")
    page.wait_for(f"{ROWS} > 100")
    assert page.texts("td.version") == ["2"] * 200


def test_a_filter_whose_figures_fail_leaves_the_list_before_it_whole(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, model_version="1", range="7d")
    page.click("#more")
    page.wait_for(f"{ROWS} === 200")
    page.run(
        "window.realFetch = fetch; window.fetch = (url, options) =>"
        "String(url).includes('/stats') ? Promise.resolve(new Response('{}', {status: 503})) : realFetch(url, options)"
    )
    choose_version(page, "2")
    page.wait_for(f"{STATE} === 'failed'")
    page.run("window.fetch = realFetch")
    page.browser.back()
    page.wait_for(f"location.search.includes('model_version=1') && {STATE} === 'ready'")
    page.click("#more:not([disabled])")
    page.wait_for(f"{ROWS} === 300")
    assert page.texts("td.version") == ["1"] * 300


@pytest.mark.parametrize("order", ["older, then refresh", "refresh, then older"])
def test_a_refresh_while_older_predictions_are_on_their_way_leaves_no_gap(
    page: Page, log: Callable[[list[dict[str, Any]]], None], story: str, start: datetime, order: str
) -> None:
    page.open("/explore", model_name=story, range="7d")
    later = (start + timedelta(hours=11)).isoformat()
    log([{"model_name": story, "duration_ms": 1, "was_successful": True, "timestamp": later}] * 5)
    page.hold("/predictions?")
    for step in order.split(", then "):
        page.click("#more") if step == "older" else press(page, "r")
    page.release()
    page.wait_for(f"{ROWS} === 200")
    listed = [each["id"] for each in page.get("predictions", model_name=story, limit=300)]
    first = listed.index(ids(page)[0])
    assert ids(page) == listed[first : first + 200]


def fields(page: Page) -> list[str]:
    return [page.find(f"#{name}").get_property("value") for name in ("model_name", "model_version")]


def test_clear_empties_the_fields(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, range="7d")
    page.find("#clear").click()
    page.wait_for(f"!location.search.includes('model_name') && {STATE} === 'ready'")
    assert fields(page) == ["", ""]
    assert page.run("return document.activeElement.id") == "clear"
    page.find("#model_name").send_keys("typed")
    page.find("#clear").click()
    assert fields(page) == ["", ""]


def test_back_brings_the_filters_back_into_the_fields(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, model_version="1", range="7d")
    choose_version(page, "2")
    page.wait_for(f"{STATE} === 'ready'")
    page.find("#model_version").click()
    page.browser.back()
    page.wait_for(f"location.search.includes('model_version=1') && {STATE} === 'ready'")
    assert fields(page) == [story, "1"]


def test_what_is_being_typed_outlives_a_refresh_and_another_range(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, range="7d")
    page.find("#model_version").send_keys("typed")
    page.run("document.activeElement.blur()")
    press(page, "r")
    page.wait_for(f"{STATE} === 'ready'")
    assert fields(page) == [story, "typed"]
    page.find("#range-30d").click()
    page.wait_for(f"location.search.includes('range=30d') && {STATE} === 'ready'")
    assert fields(page) == [story, "typed"]


@pytest.mark.parametrize("way", ["address", "click"])
def test_a_prediction_waits_for_a_key_and_opens_with_it(page: Page, story: str, way: str) -> None:
    page.open("/explore", model_name=story, range="7d")
    first = ids(page)[0]
    page.run(
        """window.realFetch = fetch;
        window.fetch = (url, { signal, headers }) => headers["X-API-Key"] === "good"
          ? realFetch(url, { signal })
          : Promise.resolve(new Response('{"message": "No key or a wrong one."}', { status: 401 }));"""
    )
    if way == "click":
        page.click("tr[data-id] .link")
    else:
        page.run("history.replaceState(null, '', `${location.search}&open=${arguments[0]}`)", first)
        page.run("dispatchEvent(new Event('viewchange'))")
    page.wait_for("document.querySelector('#key').open")
    page.settle()
    assert not page.run("return document.querySelector('#prediction').open")
    page.find("#key-field").send_keys("good\n")
    page.wait_for("document.querySelector('#prediction').open")
    assert page.find("#prediction-title").text == f"Prediction {first}"
    assert story in page.find("#prediction").text
    page.run("sessionStorage.clear()")


def test_the_prediction_that_was_opened_last_is_the_one_that_is_shown(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, range="7d")
    first, second = ids(page)[:2]
    page.hold(f"/predictions/{first}")
    for each in (first, second):
        page.click(f"tr[data-id='{each}'] .link")
    page.wait_for("document.querySelector('#prediction').open")
    page.release()
    assert page.find("#prediction-title").text == f"Prediction {second}"


def test_a_prediction_that_comes_after_the_reader_went_back_stays_closed(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, model_version="1", range="7d")
    choose_version(page, "2")
    page.wait_for(f"{STATE} === 'ready'")
    page.hold("/predictions/")
    page.click("tr[data-id] .link")
    page.browser.back()
    page.wait_for(f"location.search.includes('model_version=1') && {STATE} === 'ready'")
    page.release()
    assert not page.run("return document.querySelector('#prediction').open")


def test_a_prediction_that_could_not_be_had_is_asked_for_again(page: Page, story: str) -> None:
    page.open("/explore", model_name=story, range="7d")
    page.run("window.realFetch = fetch; window.fetch = () => Promise.reject(new TypeError())")
    page.click("tr[data-id] .link")
    page.wait_for("document.querySelector('#prediction').textContent.includes('The service does not answer.')")
    page.run("window.fetch = realFetch")
    press(page, "r")
    page.wait_for(f"document.querySelector('#prediction').textContent.includes('{story}')")
