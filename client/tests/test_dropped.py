"""Dropped are data: counted by model, minute and reason, told once each."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from misbehaving import Service, wait_until
from predlog import Client, dropped
from predlog.dropped import Dropped, header

MINUTE = 60_000_000_000
SOME_DAY = 20_000 * 24 * 60  # 2024-10-04, in minutes


def test_losses_are_kept_apart_by_model_minute_and_reason() -> None:
    book = Dropped()
    for model, minute, reason in [("a", 0, "expired"), ("a", 1, "expired"), ("a", 1, "rejected"), ("b", 1, "expired")]:
        book.add(model, (SOME_DAY + minute) * MINUTE + 59, reason, 2)
        book.add(model, (SOME_DAY + minute) * MINUTE, reason)
    reports = book.take()
    assert [report.pop("id") for report in reports] and all(report["count"] == 3 for report in reports)
    assert {(r["model_name"], r["timestamp"], r["reason"]) for r in reports} == {
        ("a", "2024-10-04T00:00:00+00:00", "expired"),
        ("a", "2024-10-04T00:01:00+00:00", "expired"),
        ("a", "2024-10-04T00:01:00+00:00", "rejected"),
        ("b", "2024-10-04T00:01:00+00:00", "expired"),
    }
    assert book.totals == {"expired": 9, "rejected": 3} and len(book) == 0


def test_a_report_given_back_keeps_its_identifier() -> None:
    book = Dropped()
    book.add("a", 0, "expired")
    reports = book.take()
    book.give_back(reports)
    assert book.take() == reports
    assert book.take() == []


def test_a_loss_of_an_absurd_time_is_told_for_now() -> None:
    book = Dropped()
    for minute in (0, -(10**6), 10**8):
        book.add("a", minute * MINUTE, "rejected")
    now = time.time()
    for report in book.take():
        assert abs(datetime.fromisoformat(report["timestamp"]).timestamp() - now) < 120


def test_a_header_holds_at_most_twenty_reports_and_four_kilobytes_of_ascii() -> None:
    book = Dropped()
    for number in range(30):
        book.add(f"модель {number}", 0, "queue_full")
    text, count = header(book.take())
    assert count <= 20 and text.isascii() and len(text) <= 4096 and len(json.loads(text)) == count
    for number in range(30):
        book.add("😀" * 199 + chr(number + 65), 0, "queue_full")
    text, count = header(book.take())
    assert count == 1 and len(text) <= 4096


def test_a_count_beyond_what_the_service_takes_is_told_in_several_reports_and_requests() -> None:
    book = Dropped()
    book.add("a", time.time_ns(), "queue_full", 2 * dropped.MAX_COUNT + 5)
    reports = book.take()
    assert sorted(report["count"] for report in reports) == [5, dropped.MAX_COUNT, dropped.MAX_COUNT]
    assert len({report["id"] for report in reports}) == 3
    sent = []
    while reports:
        text, count = header(reports)
        sent.append(sum(report["count"] for report in json.loads(text)))
        del reports[:count]
    assert max(sent) <= dropped.MAX_COUNT and sum(sent) == 2 * dropped.MAX_COUNT + 5


def test_a_report_that_waited_for_more_than_a_month_is_told_for_now_under_its_identifier() -> None:
    book = Dropped()
    book.add("a", time.time_ns() - 31 * 24 * 60 * MINUTE, "expired")
    book.add("a", time.time_ns() - 29 * 24 * 60 * MINUTE, "expired")
    reports = book.take()
    text, _ = header(reports)
    said = json.loads(text)
    assert [report["id"] for report in said] == [report["id"] for report in reports]
    ages = sorted(time.time() - datetime.fromisoformat(report["timestamp"]).timestamp() for report in said)
    assert ages[0] < 120 and 28.9 * 86400 < ages[1] < 29.1 * 86400


def test_a_long_outage_over_many_models_is_counted_by_the_hour_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dropped, "MAX_KEYS", 100)
    book = Dropped()
    for minute in range(600):
        for model in "abc":
            book.add(model, (SOME_DAY + minute) * MINUTE, "queue_full")
    assert len(book) <= 100
    reports = book.take(1000)
    counts: Counter[str] = Counter()
    for report in reports:
        counts[report["model_name"]] += report["count"]
    assert counts == {"a": 600, "b": 600, "c": 600}


def test_in_an_outage_over_names_without_end_the_rest_is_counted_as_of_no_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dropped, "MAX_KEYS", 100)
    book = Dropped()
    for number in range(1000):
        book.add(f"model {number}", SOME_DAY * MINUTE, "queue_full")
    assert len(book) <= 103
    counts = Counter({report["model_name"]: report["count"] for report in book.take(1000)})
    assert sum(counts.values()) == 1000 and counts["?"] >= 890 and counts["model 0"] == 1


def test_losses_alone_are_sent_with_an_empty_batch(service: Service, client: Client) -> None:
    client.log("", duration_ms=1, was_successful=True)
    wait_until(lambda: service.lost == 1)
    assert [request["count"] for request in service.requests] == [0]


def test_a_lost_answer_does_not_count_a_loss_twice(service: Service, client: Client) -> None:
    service.moods.extend(["store_and_reset", "store_and_half", 500])
    client.log("", duration_ms=1, was_successful=True)
    wait_until(lambda: service.requests and client.flush())
    assert service.lost == 1 and max(service.report_copies.values()) == 3


def test_one_report_that_is_refused_does_not_take_the_others_along(service: Service, client: Client) -> None:
    def mood(records: Any, headers: Any) -> Any:
        return 422 if "bad model" in headers.get("Predlog-Dropped", "") else "ok"

    service.mood = mood
    for model in ["good", "bad model", "better", "best"]:
        client.log(model, duration_ms=-1, was_successful=True)
    client.log("good", duration_ms=1, was_successful=True)
    wait_until(lambda: service.lost_by("model_name") == {"good": 1, "better": 1, "best": 1})
    wait_until(lambda: len(service.records) == 1)


def test_many_losses_take_several_requests(service: Service, client: Client) -> None:
    for number in range(70):
        client.log(f"model {number}", duration_ms=-1, was_successful=True)
    wait_until(lambda: service.lost == 70)
    assert len(service.requests) >= 4


def test_records_that_the_queue_could_not_hold_are_reported_as_soon_as_the_service_is_there(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.mood = 503
    client = make_client(queue_size=100)
    for index in range(1000):
        client.log(f"model {index % 3}", duration_ms=1, was_successful=True)
    service.mood = "ok"
    wait_until(lambda: len(service.records) + service.lost == 1000)
    assert set(service.lost_by("reason")) == {"queue_full"}
    assert client.stats().dropped["queue_full"] == service.lost
