"""The threads that look after the alerts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

from app.server import alert_loop

SOON_S = 60


def test_a_webhook_that_does_not_answer_holds_up_no_evaluation() -> None:
    evaluated, is_over = threading.Semaphore(0), threading.Event()

    def deliver(go_on: Callable[[], bool]) -> None:
        is_over.wait(3 * SOON_S)

    alerts = SimpleNamespace(every=timedelta(milliseconds=10), evaluate=evaluated.release)
    alert_loop.start(alerts, SimpleNamespace(deliver=deliver), is_over.is_set)  # type: ignore[arg-type]
    try:
        assert all(evaluated.acquire(timeout=SOON_S) for _ in range(3))
    finally:
        is_over.set()


def test_what_was_just_told_is_sent_without_a_pause() -> None:
    told, sent, is_over = threading.Event(), threading.Semaphore(0), threading.Event()

    def evaluate() -> list[str]:
        told.wait(3 * SOON_S)
        is_first = told.is_set()
        told.clear()
        return ["firing"] if is_first else []

    alerts = SimpleNamespace(every=timedelta(hours=1), evaluate=evaluate)
    delivery = SimpleNamespace(deliver=lambda go_on: sent.release())
    alert_loop.MAX_PAUSE_S, before = 3600.0, alert_loop.MAX_PAUSE_S
    try:
        alert_loop.start(alerts, delivery, is_over.is_set)  # type: ignore[arg-type]
        assert sent.acquire(timeout=SOON_S)
        told.set()
        assert sent.acquire(timeout=SOON_S)
    finally:
        alert_loop.MAX_PAUSE_S = before
        is_over.set()
