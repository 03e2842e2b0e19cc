"""A batch with changed bytes: a documented answer that is true about the stored records and tells no secret.

HOSTILE_CASES says how many bodies to send at the least, over all of these tests.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from io import BytesIO, StringIO
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from flask_migrate import upgrade
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine
from werkzeug.test import TestResponse

from conftest import Server, make_app
from support.mutations import damaged, zipped
from support.scratch import empty_database

CASES = int(os.environ.get("HOSTILE_CASES", "0"))
pytestmark = pytest.mark.timeout(300 + CASES)

PATH = "/api/v1/predict-logs"
JSON, NDJSON = "application/json", "application/x-ndjson"
RECEIPT = {"stored", "duplicates", "rejected"}
# In every value that is sent, and in no name: nobody may read it again.
MARKER = "5ecret"

HOSTILE = settings(
    max_examples=max(200, CASES // 4),
    deadline=None,
    derandomize=not CASES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@dataclass
class Victim:
    """A service with a database of its own, whose rows are counted and whose log is read."""

    client: FlaskClient
    database: Engine
    documented: set[int]
    statuses: Counter[int] = field(default_factory=Counter)

    def post(self, body: bytes, headers: dict[str, str], **environ: Any) -> TestResponse:
        """Send a batch: the answer is a documented one and tells the truth, and nothing of what was sent is told on."""
        before = self._rows()
        with redirect_stderr(StringIO()) as log:
            answer = self.client.post(PATH, data=body, headers=headers, environ_overrides=environ)
        self.statuses[answer.status_code] += 1
        assert answer.status_code in self.documented, answer.text
        check(answer, self._rows() - before, log.getvalue())
        return answer

    def _rows(self) -> int:
        with self.database.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM prediction_log").scalar_one())


@pytest.fixture(scope="module")
def victim(server: Server) -> Iterator[Victim]:
    with empty_database(server) as url:
        app = make_app(url, pool_size=1, max_body_bytes=100_000)
        with app.app_context():
            upgrade()
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
        client = app.test_client()
        responses = client.get("/openapi.json").json["paths"][PATH]["post"]["responses"]
        yield Victim(client, engine, {int(status) for status in responses if status < "500"})
        engine.dispose()


def check(answer: TestResponse, added: int, log: str) -> None:
    """A body of one of two shapes that says what was stored, a line in the log, and nothing of what was sent."""
    body = answer.json
    if body.keys() == RECEIPT:
        assert body["stored"] == added
        indices = [rejection["index"] for rejection in body["rejected"]]
        assert indices == sorted(set(indices))
        taken = body["stored"] + body["duplicates"]
        assert answer.status_code == (200 if not indices else 207 if taken else 422)
    else:
        assert body.keys() <= {"code", "status", "message", "errors"}
        assert body["code"] == answer.status_code >= 400
        assert added == 0
    assert MARKER not in "".join(values(body))
    (line,) = log.splitlines()
    assert MARKER not in log
    assert json.loads(line)["request_id"] == answer.headers["X-Request-ID"]


def values(body: Any) -> Iterator[str]:
    """Every text in an answer; names are left out, since an unknown field is told by its name."""
    if isinstance(body, dict):
        body = list(body.values())
    if isinstance(body, list):
        for part in body:
            yield from values(part)
    else:
        yield str(body)


def record(number: int, name: str, wrong: dict[str, Any], *, again: bool) -> dict[str, Any]:
    key = {"request_id": str(UUID(int=number)), "timestamp": "2025-06-09T12:00:00Z"} if again else {}
    text = f"{name} {MARKER}"
    return {"model_name": text, "duration_ms": 1.5, "was_successful": True, "error": text, **key} | {
        "model_version": text,
        "metadata": {"a": [text, 1, None], "ж": {"b": text}},
        **wrong,
    }


FIELDS = [
    "was_successful",
    "duration_ms",
    "timestamp",
    "request_id",
    "metadata",
    "model_name",
    "model_version",
    "error",
]
# A value that cannot be there, in one record of three.
WRONG: st.SearchStrategy[Any] = st.one_of(
    st.just({}),
    st.just({}),
    st.dictionaries(
        st.sampled_from(FIELDS), st.sampled_from([MARKER, [MARKER], {"a": [MARKER]}, MARKER * 900]), min_size=1
    ),
)
NAMES = st.sampled_from(["a", "ж", "😀", 'q"', "\\"])
RECORDS = st.lists(
    st.builds(record, st.integers(1, 2**128 - 1), NAMES, WRONG, again=st.booleans()), min_size=1, max_size=4
)
ENCODERS = {
    JSON: lambda records: json.dumps(records, ensure_ascii=len(records) % 2 == 0).encode(),
    NDJSON: lambda records: b"\n".join(json.dumps(one, ensure_ascii=len(records) % 2 == 0).encode() for one in records),
}
TYPES = st.sampled_from([JSON, NDJSON])
TRUE_OR_NOT = st.sampled_from([True] * 7 + [False])
LIES = ["text/plain", "application/json; charset=utf-16", "application/json;;", "application/a+json", "x", "*/*", "é"]
OTHER_ENCODINGS = ["identity", "gzip", "x-gzip", "GZIP ", "br", "gzip, gzip", "deflate", "", "é"]


@HOSTILE
@given(st.data(), RECORDS, TYPES)
def test_a_damaged_body_is_answered_as_documented(
    victim: Victim, data: st.DataObject, records: list[dict[str, Any]], content_type: str
) -> None:
    body = data.draw(damaged(ENCODERS[content_type](records), st.integers(0, 3)))
    said = content_type if data.draw(TRUE_OR_NOT) else data.draw(st.sampled_from([*LIES, JSON, NDJSON]))
    victim.post(body, {"Content-Type": said})


@HOSTILE
@given(st.data(), RECORDS, TYPES)
def test_damaged_gzip_is_answered_as_documented(
    victim: Victim, data: st.DataObject, records: list[dict[str, Any]], content_type: str
) -> None:
    body = data.draw(zipped(data.draw(damaged(ENCODERS[content_type](records), st.sampled_from([0, 0, 1])))))
    encoding = "gzip" if data.draw(TRUE_OR_NOT) else data.draw(st.sampled_from(OTHER_ENCODINGS))
    victim.post(body, {"Content-Type": content_type, "Content-Encoding": encoding})


NOW = datetime.now(timezone.utc).isoformat()


@HOSTILE
@given(st.data(), RECORDS)
def test_a_damaged_report_of_losses_is_answered_as_documented(
    victim: Victim, data: st.DataObject, records: list[dict[str, Any]]
) -> None:
    key = {"id": str(UUID(int=1)), "timestamp": NOW}
    report = {**key, "model_name": MARKER, "reason": "expired", "count": 3}
    header = data.draw(damaged(json.dumps([report] * len(records)).encode(), st.integers(0, 2)))
    # As a server hands a header on: latin-1, without line ends.
    text = header.translate(None, b"\r\n").decode("latin-1")
    victim.post(json.dumps(records).encode(), {"Content-Type": JSON}, HTTP_PREDLOG_DISCARDED=text)


@HOSTILE
@given(st.data(), RECORDS, TYPES)
def test_a_length_that_lies_is_answered_as_documented(
    victim: Victim, data: st.DataObject, records: list[dict[str, Any]], content_type: str
) -> None:
    body = ENCODERS[content_type](records)
    no_lengths = st.sampled_from(["", "x", "1e3", "9" * 30, "٣"])
    length = data.draw(st.one_of(st.integers(-2, 2 * len(body)).map(str), no_lengths))
    environ = {"CONTENT_LENGTH": length, "wsgi.input": BytesIO(body), "CONTENT_TYPE": content_type}
    victim.post(b"", {}, **environ)


def test_the_bodies_that_were_sent_were_of_every_kind(victim: Victim) -> None:
    if sum(victim.statuses.values()) < 400:
        pytest.skip("the tests before this one were not run")
    assert all(victim.statuses[status] for status in (200, 207, 400, 413, 415, 422)), victim.statuses
    assert victim.statuses[200] + victim.statuses[207] > sum(victim.statuses.values()) / 4, victim.statuses


REQUEST = "POST /api/v1/predict-logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
ONE = json.dumps({"model_name": "framed", "duration_ms": 1, "was_successful": True})
FRAMES = {
    "a chunk that is shorter than it says": f"Transfer-Encoding: chunked\r\n\r\nfff\r\n{ONE}\r\n0\r\n\r\n",
    "a chunk that is longer than it says": f"Transfer-Encoding: chunked\r\n\r\n5\r\n{ONE}\r\n0\r\n\r\n",
    "a chunk whose length is no number": f"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{ONE}\r\n0\r\n\r\n",
    "a chunk of negative length": f"Transfer-Encoding: chunked\r\n\r\n-1\r\n{ONE}\r\n0\r\n\r\n",
    "a chunk of more bytes than there are": f"Transfer-Encoding: chunked\r\n\r\n{'f' * 40}\r\n{ONE}\r\n0\r\n\r\n",
    "chunks that do not end": f"Transfer-Encoding: chunked\r\n\r\n{len(ONE):x}\r\n{ONE}\r\n",
    "a body that is shorter than it says": f"Content-Length: {len(ONE) + 10}\r\n\r\n{ONE}",
    "a length that is negative": f"Content-Length: -5\r\n\r\n{ONE}",
    "two lengths": f"Content-Length: {len(ONE)}\r\nContent-Length: 1\r\n\r\n{ONE}",
    "a length and chunks": f"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{len(ONE):x}\r\n{ONE}\r\n",
    "another transfer encoding": f"Transfer-Encoding: gzip, chunked\r\n\r\n{len(ONE):x}\r\n{ONE}\r\n",
}


def test_frames_that_lie_are_answered_with_the_truth_and_do_not_stop_the_server(fresh_service: int) -> None:
    stored = 0
    for why, frame in FRAMES.items():
        status, body = _send(fresh_service, REQUEST + frame, hang_up=True)
        assert status in (None, 200, 207, 400, 408, 411, 413, 422, 501), why
        stored += json.loads(body)["stored"] if status in (200, 207) else 0
    whole = f"{REQUEST}Connection: close\r\nContent-Length: {len(ONE)}\r\n\r\n{ONE}"
    assert _send(fresh_service, whole, hang_up=False)[0] == 200
    stats = "GET /api/v1/stats?model_name=framed HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    total = json.loads(_send(fresh_service, stats, hang_up=False)[1])["total_requests"]
    # For a client that hung up the service may have stored more than it could answer.
    assert stored + 1 <= total <= len(FRAMES) + 1


def _send(port: int, request: str, *, hang_up: bool) -> tuple[int | None, bytes]:
    """Send that and nothing more: the status and the body of the answer, None if the server only hung up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, suppress(ConnectionResetError):
        connection.sendall(request.encode())
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else None), body
