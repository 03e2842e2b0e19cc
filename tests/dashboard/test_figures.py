"""What a page shows equals what the API says, for every range and zone."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from dashboard.conftest import Page

from support.browser import TIMEOUT

PERCENTILES = ("50", "95", "99")
RANGES = ("preset", "days in Kathmandu", "cut anywhere in New York", "instants", "an hour without predictions")


def range_of(kind: str, start: datetime) -> dict[str, str]:
    """The parameters of a page's address."""
    day = start.date().isoformat()
    cut = start + timedelta(hours=2, minutes=13, seconds=17)
    return {
        "preset": {"range": "7d", "zone": "Europe/Berlin"},
        "days in Kathmandu": {"from": day, "to": day, "zone": "Asia/Kathmandu"},
        "cut anywhere in New York": {"from": f"{day}T06:07", "to": f"{day}T11:43:21", "zone": "America/New_York"},
        "instants": {"from": cut.isoformat(), "to": (cut + timedelta(hours=5)).isoformat(), "zone": "UTC"},
        "an hour without predictions": {"from": f"{day}T01:00", "to": f"{day}T02:00", "zone": "UTC"},
    }[kind]


def figures(tally: dict[str, Any]) -> list[float | None]:
    predictions = tally["total_requests"]
    rate = tally["failed_requests"] / predictions if predictions else None
    return [predictions, rate, *(tally["percentiles"][p] for p in PERCENTILES), tally["completeness"]]


def same(shown: list[float | None], expected: list[float | None]) -> bool:
    return [value and pytest.approx(value, rel=1e-9) for value in expected] == shown


@pytest.mark.parametrize("kind", RANGES)
def test_the_row_of_a_model_has_its_figures(page: Page, story: str, start: datetime, kind: str) -> None:
    page.open(search=story, **range_of(kind, start))
    assert page.texts(".col-model a") == [story]
    columns = ("predictions", "errors", *(f"p{p}" for p in PERCENTILES), "complete")
    shown = [page.values(f"td.col-{column}")[0] for column in columns]
    expected = page.get("stats", model_name=story, percentiles=",".join(PERCENTILES), **page.counted)
    assert same(shown, figures(expected))
    assert page.problems == []


@pytest.mark.parametrize("kind", RANGES)
def test_the_range_is_the_one_that_the_zones_clock_shows(page: Page, story: str, start: datetime, kind: str) -> None:
    asked = range_of(kind, start)
    page.open(search=story, **asked)
    counted = [datetime.fromisoformat(page.counted[bound]) for bound in ("from", "to")]
    if kind == "preset":
        assert counted[1] - counted[0] == timedelta(days=7)
    elif kind == "days in Kathmandu":
        answer = page.get("stats", timezone=asked["zone"], **{name: asked[name] for name in ("from", "to")})
        assert page.counted == answer["range"]
    else:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(asked["zone"])
        written = [datetime.fromisoformat(asked[bound]) for bound in ("from", "to")]
        assert counted == [bound if bound.tzinfo else bound.replace(tzinfo=zone) for bound in written]


@pytest.mark.parametrize("kind", RANGES)
def test_the_page_of_a_model_has_its_figures(page: Page, story: str, start: datetime, kind: str) -> None:
    asked = range_of(kind, start)
    page.open("/model", model_name=story, version="1", **asked)
    one = {"model_name": story, "model_version": "1", "timezone": asked["zone"], **page.counted}
    stats = page.get("stats", percentiles=",".join(PERCENTILES), **one)
    assert same(page.values("[data-figure]"), figures(stats))
    series = page.get("stats/timeseries", bucket="auto", percentiles=",".join(PERCENTILES), **one)["points"]
    for panel in ("predictions", "latency", "distribution"):
        page.click(f"#{panel} summary")
    predictions = [[point["failed_requests"], point["successful_requests"]] for point in series]
    assert same(page.values("#predictions td"), [value for row in predictions for value in row])
    latencies = [point["percentiles"][p] for point in series for p in PERCENTILES]
    assert same(page.values("#latency td"), latencies)
    histogram = page.get("stats/histogram", bins=40, **one)
    assert same(page.values("#distribution td"), [float(each["count"]) for each in histogram["bins"]])
    assert page.problems == []


def test_two_versions_are_compared_in_the_words_of_the_api(page: Page, story: str, start: datetime) -> None:
    asked = range_of("preset", start)
    page.open("/model", model_name=story, **asked)
    question = {"model_name": story, "version_a": "1", "version_b": "2", "percentiles": ",".join(PERCENTILES)}
    answer = page.get("stats/compare", **question, **page.counted)
    verdicts = [
        answer["success_rate"]["verdict"],
        *(each["verdict"] for each in answer["duration"]["percentiles"].values()),
    ]
    assert page.run("return [...document.querySelectorAll('#compare li')].map(e => e.dataset.verdict)") == verdicts
    assert "2 succeeds less often than 1" in page.find("#compare").text
    assert page.texts("#compare h2") == ["2 against 1"]


def test_the_distributions_of_two_versions_are_shares_of_their_predictions(
    page: Page, story: str, start: datetime
) -> None:
    page.open("/model", model_name=story, **range_of("preset", start))
    page.click("#distribution summary")
    shown = page.values("#distribution td")
    for side, version in enumerate(("2", "1")):
        predictions = page.get("predictions", model_name=story, model_version=version, limit=1000)
        counts = Counter(round(10 * math.log(each["duration_ms"])) for each in predictions)
        shares = [share or 0 for share in shown[side::2]]
        assert sum(shares) == pytest.approx(1)
        assert max(shares) < 3 * max(counts.values()) / len(predictions), "no bin has what belongs to its neighbours"


@pytest.mark.parametrize(("against", "days"), [("before", 7), ("week", 7)])
def test_two_ranges_are_compared_in_the_words_of_the_api(
    page: Page, story: str, start: datetime, against: str, days: int
) -> None:
    page.open("/model", model_name=story, against=against, **range_of("preset", start))
    end = {name: datetime.fromisoformat(value) for name, value in page.counted.items()}
    question = {"from_b": page.counted["from"], "to_b": page.counted["to"]}
    question |= {f"{name}_a": (bound - timedelta(days=days)).isoformat() for name, bound in end.items()}
    answer = page.get("stats/compare", model_name=story, percentiles=",".join(PERCENTILES), **question)
    shown = page.run("return [...document.querySelectorAll('#compare li')].map(e => e.dataset.verdict)")
    assert shown[0] == answer["success_rate"]["verdict"]


def test_the_versions_have_their_figures_the_newest_first(page: Page, story: str, start: datetime) -> None:
    page.open("/model", model_name=story, **range_of("preset", start))
    assert page.texts("#versions tbody th") == ["2", "1"]
    groups = page.get("stats", model_name=story, group_by="model_version", percentiles="50,95,99", **page.counted)[
        "groups"
    ]
    expected = [value for group in reversed(groups) for value in figures(group)[:5]]
    assert same(page.values("#versions td.number"), expected)


def test_errors_are_grouped_and_the_new_ones_are_said_to_be(page: Page, story: str, start: datetime) -> None:
    page.open("/model", model_name=story, **range_of("preset", start))
    groups = page.get("errors", model_name=story, **page.counted)
    assert page.texts("#errors tbody .link") == [group["pattern"] for group in groups]
    assert page.values("#errors td.number") == [group["count"] for group in groups]
    assert [text.endswith("new in 2") for text in page.texts("#errors tbody th")] == [True, False]


def test_the_slowest_and_the_failed_predictions_are_those_of_the_log(page: Page, story: str, start: datetime) -> None:
    page.open("/model", model_name=story, **range_of("preset", start))
    predictions = page.get("predictions", model_name=story, limit=1000)
    slowest = sorted((each["duration_ms"] for each in predictions), reverse=True)[:8]
    assert page.values("#slowest td.number") == pytest.approx(slowest)
    failed = [str(each["id"]) for each in predictions if not each["was_successful"]][:8]
    assert page.run("return [...document.querySelectorAll('#failed tr[data-id]')].map(e => e.dataset.id)") == failed


@pytest.mark.parametrize("whole", [0, 40])
def test_predictions_in_summaries_are_in_the_figures_and_said_to_be(
    page: Page, log: Any, start: datetime, whole: int
) -> None:
    name = f"sampled-{uuid4().hex}"
    summary = {
        "summary_id": str(uuid4()), "model_name": name, "timestamp": start.isoformat(), "count": 10_000,
        "successful_count": 10_000, "duration_ms_sum": 70_000, "duration_ms_min": 7, "duration_ms_max": 7,
        "bins": [[98, 10_000]],
    }  # fmt: skip
    single = {"model_name": name, "was_successful": True, "timestamp": start.isoformat()}
    log([summary, *({**single, "duration_ms": 6 + number / 20} for number in range(whole))])
    page.open("/model", model_name=name, **range_of("preset", start))
    assert page.values("[data-figure=Predictions]") == [10_000 + whole]
    assert page.texts(".tile .hint")[0] == "10,000 in summaries"
    assert "sent them as summaries" in page.find(".tile .hint").get_attribute("title")
    assert len(page.values("#slowest td.number")) == min(whole, 8)
    assert whole or "No slow prediction of this range was sent whole." in page.texts("#slowest p")


def test_explore_lists_what_the_api_lists(page: Page, story: str, start: datetime) -> None:
    filters = {"model_name": story, "model_version": "2", "was_successful": "false", "min_duration_ms": "60"}
    page.open("/explore", **filters, **range_of("preset", start))
    listed = page.get("predictions", limit=100, **filters)
    assert 0 < len(listed) < 40
    assert page.run("return [...document.querySelectorAll('tr[data-id]')].map(e => e.dataset.id)") == [
        str(each["id"]) for each in listed
    ]


def test_explore_leads_on_to_older_predictions(page: Page, story: str, start: datetime) -> None:
    page.open("/explore", model_name=story, **range_of("preset", start))
    for pages in range(1, 6):
        page.wait_for(f"document.querySelectorAll('tr[data-id]').length === {100 * pages}")
        page.click("#more:not([disabled])")
    page.wait_for("document.querySelectorAll('tr[data-id]').length === 600 && document.querySelector('#more').hidden")


def test_older_predictions_that_cannot_be_had_now_can_be_asked_for_again(
    page: Page, story: str, start: datetime
) -> None:
    page.open("/explore", model_name=story, **range_of("preset", start))
    page.run("window.realFetch = fetch; window.fetch = () => Promise.reject(new TypeError())")
    page.click("#more:not([disabled])")
    page.wait_for("document.querySelector('#more').textContent === 'The service does not answer. Try again'")
    page.run("window.fetch = window.realFetch")
    page.click("#more:not([disabled])")
    page.wait_for("document.querySelectorAll('tr[data-id]').length === 200")
    assert page.texts("#more") == ["Older predictions"]


def test_of_a_version_the_page_says_that_the_dropped_ones_are_of_all_versions(
    page: Page, story: str, start: datetime
) -> None:
    dropped = {"id": str(uuid4()), "timestamp": start.isoformat(), "model_name": story, "reason": "exit", "count": 400}
    body = json.dumps([dropped]).encode()
    request = Request(f"{page.address}/api/v1/dropped", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=TIMEOUT) as response:
        assert json.load(response)["counted"] == 1
    for version, share, hint in (
        ({}, "60.0%", "400 dropped by clients"),
        ({"version": "2"}, "≥ 33.3%", "400 dropped by clients, all versions"),
    ):
        page.open("/model", model_name=story, **version, **range_of("preset", start))
        assert page.texts("[data-figure=Complete]") == [share]
        assert page.texts("[data-figure=Complete] + .hint") == [hint]
    assert "at least" in page.find("[data-figure=Complete] + .hint").get_attribute("title")
