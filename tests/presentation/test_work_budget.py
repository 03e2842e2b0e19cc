"""No batch makes more work than so many times an honest one for which as many bytes were sent.

Work is counted, not timed: the lines of Python that are executed and the calls of built-in functions.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from types import FrameType
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, request
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from app.domain.predictions import MAX_METADATA_DEPTH, metadata_json
from app.presentation.batch_decoder import read_array, read_lines
from app.presentation.middleware.request_body import SLICE, read_body

TIMES = 400
# A small body may have 300 records looked at closely; a record of 20 unknown fields takes 2,000 steps.
FREE = 600_000
LIMIT = 16 * 2**20


TOO_DEEP = '{"model_name":"a","duration_ms":1,"was_successful":true,"metadata":{"a":%s}}' % ("[" * 700 + "]" * 700)


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """How many steps the block takes."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return trace

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        yield lambda: steps
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


def work(app: Flask, body: bytes, *, is_array: bool, compressed: bool) -> tuple[int, int]:
    """The steps that it takes to read a batch, and the bytes that are sent for it."""
    sent = gzip.compress(body, 9) if compressed else body
    encoding = "gzip" if compressed else "identity"
    with app.test_request_context(method="POST", data=sent, headers={"Content-Encoding": encoding}):
        with counted() as steps, suppress(HTTPException):
            content, size = read_body(request, LIMIT)
            (read_array if is_array else read_lines)(content, None, size)
        return steps(), len(sent)


def honest() -> list[str]:
    """Records as model servers send them, each with an id and a time of its own."""
    now = datetime.now(timezone.utc)
    return [
        json.dumps({
            "model_name": f"model_{i % 20}", "model_version": f"2026.{i % 3}", "duration_ms": hash(i) % 977 / 7,
            "was_successful": i % 50 > 0, "timestamp": (now - timedelta(milliseconds=i * 37)).isoformat(),
            "request_id": str(UUID(int=(i * 0x9E3779B97F4A7C15F39CC0605CEDC834) % 2**128)),
            "metadata": {"rooms": i % 6, "score": i * 0.618 % 1},
        })
        for i in range(2000)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def app() -> Flask:
    return Flask("work")


@pytest.fixture(scope="module")
def honest_steps_a_byte(app: Flask) -> dict[bool, float]:
    """By whether it is compressed."""
    body = "\n".join(honest()).encode()
    found = {}
    for compressed in (False, True):
        steps, size = work(app, body, is_array=False, compressed=compressed)
        found[compressed] = steps / size
    return found


ONE_INVALID = {
    "no record": "{}",
    "too old": '{"model_name":"a","duration_ms":1,"was_successful":true,"timestamp":"1950-01-01T00:00:00Z"}',
    "NUL": '{"model_name":"a\\u0000","duration_ms":1,"was_successful":true}',
    "metadata is no object": '{"model_name":"a","duration_ms":1,"was_successful":true,"metadata":1}',
    "unusual but valid": '{"model_name":"a","duration_ms":"1.5","was_successful":true}',
}


@pytest.mark.parametrize("is_array", [True, False], ids=["array", "lines"])
@pytest.mark.parametrize("invalid", ONE_INVALID)
def test_one_record_that_needs_a_closer_look_does_not_slow_the_others(app: Flask, invalid: str, is_array: bool) -> None:
    valid, steps = honest(), []
    for records in (valid, [*valid[:1000], ONE_INVALID[invalid], *valid[1000:]]):
        body = f"[{','.join(records)}]" if is_array else "\n".join(records)
        steps.append(work(app, body.encode(), is_array=is_array, compressed=False)[0])
    assert steps[1] < 3 * steps[0]


VALID = '"model_name":"a","duration_ms":1,"was_successful":true'
UNKNOWN = ",".join(f'"{chr(97 + i)}":0' for i in range(20))
WRONG = [
    "", " ", "\r", "1", "null", "[]", "{}", '""', "x", "{", "}", '"', "\\", "NaN", "\ufeff", f"{{{UNKNOWN}}}",
    f"{{{VALID}}}", f'{{{VALID},"timestamp":"2025-06-09 12:00"}}', f'{{{VALID},"error":null}}',
    f'{{{VALID},"request_id":"019756a3-4c00-4000-8000-000000000000"}}',
    f'{{{VALID},"metadata":{{"a":{"[" * 700}{"]" * 700}}}}}',
    f'{{{VALID},"metadata":{{"a":[{",".join(["1e5"] * 100)}]}},"timestamp":"x"}}',
    f'{{{VALID},"metadata":{{"a":{"1" * 4000}}}}}',
    f'{{{VALID},"metadata":{{"a":[{",".join(["{}"] * 1000)}]}}}}',
    '{"model_name":"' + "\\u0000" * 300 + '"}',
    '{"a":' * 300 + "1" + "}" * 300,
    '{"a":1,' + '"a":1,' * 300 + '"a":1}',
]  # fmt: skip


@example([TOO_DEEP], 1000, "", True, True)
@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(WRONG), min_size=1, max_size=3),
    times=st.sampled_from([1, 30, 1000, 20_000]),
    space=st.sampled_from(["", " ", "\n" * 50]),
    is_array=st.booleans(),
    compressed=st.booleans(),
)
def test_no_batch_makes_more_work_than_its_size_allows(
    app: Flask, honest_steps_a_byte: dict[bool, float], pieces: list[str], times: int, space: str,
    is_array: bool, compressed: bool,
) -> None:  # fmt: skip
    block = [piece + space for piece in pieces]
    times = min(times, 4_000_000 // len("".join(block) + " "))
    body = f"[{','.join(block * times)}]" if is_array else "\n".join(block * times)
    steps, size = work(app, body.encode(), is_array=is_array, compressed=compressed)
    assert steps <= FREE + TIMES * honest_steps_a_byte[compressed] * size


@pytest.mark.parametrize("body", [b" " * 1_000_000, b"[" + b"\n" * 1_000_000, b"\n" * 1_000_000, b"\r\n" * 500_000])
@pytest.mark.parametrize("is_array", [True, False])
def test_white_space_makes_no_work(app: Flask, body: bytes, is_array: bool) -> None:
    assert work(app, body, is_array=is_array, compressed=True)[0] < 10_000


def test_metadata_is_not_looked_at_beyond_its_depth() -> None:
    def steps(depth: int) -> int:
        metadata: dict[str, Any] = {"a": json.loads("[" * depth + "]" * depth)}
        with counted() as found, suppress(ValueError):
            metadata_json(metadata)
        return found()

    assert steps(800) < 1.2 * steps(MAX_METADATA_DEPTH + 1)


def test_strings_at_the_bottom_of_metadata_make_no_more_work_than_others() -> None:
    def steps(depth: int) -> int:
        strings = ",".join(['"\\\\u0000"'] * 100)
        metadata: dict[str, Any] = {"a": json.loads("[" * depth + strings + "]" * depth)}
        with counted() as found:
            metadata_json(metadata)
        return found()

    assert steps(MAX_METADATA_DEPTH - 1) < 5 * steps(1)


def test_gzip_members_cost_what_they_hold(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = 0

    class Inflater:
        def __init__(self, *arguments: Any) -> None:
            self._inflater = made(*arguments)

        def decompress(self, data: bytes, *arguments: Any) -> bytes:
            nonlocal fed
            fed += len(data)
            return self._inflater.decompress(data, *arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inflater, name)

    made = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Inflater)
    members = 20_000
    body = gzip.compress(b"") * members
    with app.test_request_context(method="POST", data=body, headers={"Content-Encoding": "gzip"}):
        assert read_body(request, LIMIT).content == b""
    assert fed <= members * SLICE
