"""What an answer means: only a receipt that can be read ends a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from predlog.response import MAX_REASON_CHARACTERS, Acknowledged, Later, Refused, judge, reason
from predlog.transport import Answer

RECEIPT = {"stored": 1, "duplicates": 1, "rejected": [{"index": 2, "errors": {"duration_ms": ["wrong"]}}]}


def said(status: int, body: object, retry_after: float | None = None) -> Any:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(Answer(status, text, retry_after), 3)


@pytest.mark.parametrize("status", [200, 207, 422])
def test_a_receipt_ends_the_batch(status: int) -> None:
    assert said(status, RECEIPT) == Acknowledged(1, 1, [(2, {"duration_ms": ["wrong"]})])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        [],
        {},
        {**RECEIPT, "stored": "1"},
        {**RECEIPT, "duplicates": -1},
        {**RECEIPT, "rejected": None},
        {**RECEIPT, "rejected": [{"index": 3}]},
        {**RECEIPT, "rejected": [{"index": True}]},
        {**RECEIPT, "rejected": ["2"]},
    ],
    ids=lambda body: str(body)[:30],
)
def test_anything_else_ends_no_batch(body: Any) -> None:
    assert isinstance(said(200, body), Later)
    assert said(422, body) == Refused(422)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507])
def test_a_busy_or_broken_service_is_tried_again_when_it_says(status: int) -> None:
    verdict = said(status, {}, retry_after=7.0)
    assert isinstance(verdict, Later) and verdict.retry_after == 7.0 and not verdict.misconfigured


@pytest.mark.parametrize("status", [301, 308, 401, 403, 404, 405, 415, 431])
def test_a_wrong_key_or_url_is_a_misconfiguration(status: int) -> None:
    verdict = said(status, {})
    assert isinstance(verdict, Later) and verdict.misconfigured


@pytest.mark.parametrize("status", [400, 413])
def test_refused_content_may_pass_in_parts(status: int) -> None:
    assert said(status, {}) == Refused(status)


def test_what_a_proxy_says_drives_no_terminal_and_fills_no_log() -> None:
    said = reason(OSError(f"Tunnel connection failed: 407 \x1b[2J\n{'x' * 60_000}"))
    assert said.startswith("OSError: Tunnel connection failed: 407") and said.isprintable()
    assert len(said) <= len("OSError") + MAX_REASON_CHARACTERS
