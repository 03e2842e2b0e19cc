"""POST /api/v1/predict-logs: many predictions at once."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app.domain.dropped import MAX_COUNT
from app.domain.instants import DAY, floor
from app.presentation.batch_decoder import MAX_RECORDS, read_array, read_lines
from app.presentation.middleware.request_body import CHUNK, read_body
from app.presentation.schemas.predictions import MAX_FIELDS
from conftest import Server, make_app
from support.summaries import prediction, summary

PATH = "/api/v1/predict-logs"
JSON, NDJSON = "application/json", "application/x-ndjson"
MB = 2**20
TIMEOUT_S = 60

Records = list[dict[str, Any]]
Send = Callable[..., TestResponse]


def array(records: list[Any]) -> bytes:
    return json.dumps(records).encode()


def lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture(params=[(JSON, array), (NDJSON, lines)], ids=["array", "lines"])
def content_type(request: pytest.FixtureRequest) -> tuple[str, Callable[[list[Any]], bytes]]:
    """How a batch is written: its content type, and what makes a body of records."""
    found: tuple[str, Callable[[list[Any]], bytes]] = request.param
    return found


@pytest.fixture(params=["plain", "gzip"])
def send(
    request: pytest.FixtureRequest, client: FlaskClient, content_type: tuple[str, Callable[[list[Any]], bytes]]
) -> Send:
    """Send records in each format, gzipped or not."""
    kind, encode = content_type

    def send(records: list[Any], **headers: str) -> TestResponse:
        body = encode(records)
        if request.param == "gzip":
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        return client.post(PATH, data=body, content_type=kind, headers=headers)

    return send


@pytest.fixture
def record(model: str) -> Callable[..., dict[str, Any]]:
    """A valid record of this test's model, a minute old, that can be sent again."""

    def record(**fields: Any) -> dict[str, Any]:
        timestamp = datetime.now(timezone.utc) - timedelta(minutes=1)
        key = {"timestamp": timestamp.isoformat(), "request_id": str(uuid4())}
        return {"model_name": model, "duration_ms": 10, "was_successful": True, **key, **fields}

    return record


@pytest.fixture
def total(client: FlaskClient, model: str) -> Callable[[], int]:
    """How many predictions of this test's model the statistics know."""
    return lambda: int(stats(client, model)["total_requests"])


def stats(client: FlaskClient, model: str, **query: str) -> dict[str, Any]:
    response = client.get("/api/v1/stats", query_string={"model_name": model, **query})
    assert response.status_code == 200, response.text
    return dict(response.json)


def receipt(response: TestResponse) -> tuple[int, int, int, list[Any]]:
    body = response.json
    return response.status_code, body["stored"], body["duplicates"], body["rejected"]


# Accepted batches


def test_a_batch_is_stored_and_answered_with_how_many(send: Send, record: Any, client: FlaskClient, model: str) -> None:
    sent = [record(duration_ms=i, model_version="2", error="no", metadata={"i": i, "ж": [None, 0.5]}) for i in range(3)]
    assert receipt(send(sent)) == (200, 3, 0, [])
    listed = client.get("/api/v1/predictions", query_string={"model_name": model}).json
    by_request = {prediction["request_id"]: prediction for prediction in listed}
    assert [without_id(by_request[prediction["request_id"]]) for prediction in sent] == sent


def without_id(prediction: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in prediction.items() if key != "id"}


def test_some_rejected_answers_207_and_stores_the_others(send: Send, record: Any, total: Any) -> None:
    response = send([record(), record(duration_ms=-1), record(), {}, record()])
    status, stored, duplicates, rejected = receipt(response)
    assert (status, stored, duplicates) == (207, 3, 0)
    assert [rejection["index"] for rejection in rejected] == [1, 3]
    assert total() == 3


def test_none_valid_answers_422_and_stores_nothing(send: Send, record: Any, total: Any) -> None:
    status, stored, duplicates, rejected = receipt(send([record(was_successful=1), record(surprise=1)]))
    assert (status, stored, duplicates, len(rejected)) == (422, 0, 0, 2)
    assert total() == 0


WRONG: list[Any] = [
    {},
    [],
    None,
    "x",
    {"model_name": "a"},
    {"model_name": "", "duration_ms": "1", "was_successful": "true"},
    {"model_name": "a\0", "duration_ms": -1, "was_successful": None, "error": "x" * 4097},
    {"model_name": "a", "duration_ms": 1e300, "was_successful": True, "model_version": "v" * 201, "id": 1},
    {"model_name": "a", "duration_ms": True, "was_successful": True, "timestamp": "1999-12-31T23:59:59Z"},
    {"model_name": "a", "duration_ms": 1, "was_successful": True, "timestamp": 1749470400, "request_id": "no"},
    {"model_name": "a", "duration_ms": 1, "was_successful": True, "metadata": {"a": "x" * 4096}, "surprise": 1},
    {"model_name": "a", "duration_ms": 1, "was_successful": True, "metadata": {"a\0": "\ud800"}, "error": "\udc00"},
    {"model_name": "a", "duration_ms": 1.1e292, "was_successful": True},
    {"model_name": "a", "duration_ms": 1, "was_successful": True, "timestamp": "0001-01-01T00:00:00+23:59"},
    {"model_name": "a", "duration_ms": 1, "was_successful": True, "timestamp": "9999-12-31T23:59:59-23:59"},
    {f"field {i}": i for i in range(MAX_FIELDS)},
    {f"field {i}": i for i in range(MAX_FIELDS + 1)},
]


def test_a_rejected_record_has_the_errors_of_the_single_endpoint(send: Send, client: FlaskClient) -> None:
    bodies = [json.dumps(record) for record in WRONG]
    alone = [client.post("/api/v1/predict-log", data=body, content_type=JSON).json for body in bodies]
    expected = [{"index": index, "errors": body["errors"]["json"]} for index, body in enumerate(alone)]
    assert send(WRONG).json["rejected"] == expected


def test_a_body_of_unknown_fields_is_not_answered_with_all_of_them(client: FlaskClient) -> None:
    record = {f"field {i}": i for i in range(10_000)}
    response = client.post(PATH, json=[record] * 20)
    assert response.status_code == 422
    assert len(response.json["rejected"]) == 20
    assert len(response.data) < 10_000


def test_an_empty_batch_is_fine(send: Send) -> None:
    assert receipt(send([])) == (200, 0, 0, [])


def test_a_line_that_is_no_json_is_rejected_alone(client: FlaskClient, record: Any) -> None:
    good = json.dumps(record()).encode()
    for bad in (b"{", b"NaN", b"{} {}", b'{"model_name":"\xff"}', b"{}\xef\xbb\xbf"):
        response = client.post(PATH, data=b"\n".join([good, b"", bad, good]), content_type=NDJSON)
        assert receipt(response)[:1] == (207,)
        (rejection,) = receipt(response)[3]
        assert (rejection["index"], rejection["errors"]["_schema"][0]) == (1, "Invalid JSON."), bad


def test_blank_lines_are_no_records(client: FlaskClient, record: Any) -> None:
    good = json.dumps(record()).encode()
    body = b"\r\n\n" + good + b"\r\n \t\r\n\r\n" + json.dumps(record()).encode() + b"\r"
    assert receipt(client.post(PATH, data=body, content_type=NDJSON)) == (200, 2, 0, [])


def test_files_that_were_joined_may_each_begin_with_a_byte_order_mark(
    client: FlaskClient, record: Any, model: str
) -> None:
    files = [json.dumps(record(model_version="\ufeff1"), ensure_ascii=False).encode(), b"\n", b"", b"{}"]
    body = b"".join(b"\xef\xbb\xbf" + file + b"\r\n" for file in files)
    status, stored, _, rejected = receipt(client.post(PATH, data=body, content_type=NDJSON))
    assert (status, stored, [each["index"] for each in rejected]) == (207, 1, [1])
    assert rejected[0]["errors"].keys() == {"model_name", "duration_ms", "was_successful"}
    found = client.get(f"/api/v1/predictions?model_name={model}").json
    assert [prediction["model_version"] for prediction in found or []] == ["\ufeff1"]


def test_a_record_is_not_spread_over_lines(client: FlaskClient, record: Any) -> None:
    response = client.post(PATH, data=json.dumps(record(), indent=1), content_type=NDJSON)
    assert response.status_code == 422
    assert client.post(PATH, data=json.dumps(record()) * 2, content_type=NDJSON).status_code == 422


@pytest.mark.parametrize("offset", ["+16:00", "-23:59", "+23:59", "-12:00"])
def test_an_offset_that_postgresql_does_not_know_means_the_same_moment(
    send: Send, record: Any, client: FlaskClient, model: str, offset: str
) -> None:
    moment = datetime(2025, 6, 9, 12, tzinfo=timezone.utc)
    local = moment.astimezone(datetime.fromisoformat(f"2025-06-09T12:00:00{offset}").tzinfo)
    assert receipt(send([record(timestamp=local.isoformat())])) == (200, 1, 0, [])
    (prediction,) = client.get("/api/v1/predictions", query_string={"model_name": model}).json
    assert prediction["timestamp"] == moment.isoformat()


# Batches that are refused as a whole


def test_10000_records_are_taken_and_one_more_is_413(send: Send, record: Any, total: Any) -> None:
    sent = [record() for _ in range(MAX_RECORDS)]
    response = send([*sent, record()])
    assert response.status_code == 413
    assert "10000 records" in response.json["message"]
    assert total() == 0
    assert receipt(send(sent)) == (200, MAX_RECORDS, 0, [])
    assert total() == MAX_RECORDS


def test_10001_records_are_413_even_if_most_are_invalid(client: FlaskClient, total: Any, record: Any) -> None:
    for content_type, encode in ((JSON, array), (NDJSON, lines)):
        body = encode([record(), *[{}] * MAX_RECORDS])
        assert client.post(PATH, data=body, content_type=content_type).status_code == 413
    assert total() == 0


def test_16_mb_inflated_are_taken_and_one_byte_more_is_413(client: FlaskClient, record: Any) -> None:
    body = array([record()])
    for size, status in ((16 * MB, 200), (16 * MB + 1, 413)):
        padded = body.ljust(size)
        assert client.post(PATH, data=padded, content_type=JSON).status_code == status
        zipped = client.post(
            PATH, data=gzip.compress(padded, 1), content_type=JSON, headers={"Content-Encoding": "gzip"}
        )
        assert zipped.status_code == status


@pytest.mark.parametrize("body", [b"{}", b'{"model_name": "a"}', b'"[]"', b"1", b"null", b"true"])
def test_a_body_that_is_no_array_is_422(client: FlaskClient, body: bytes) -> None:
    response = client.post(PATH, data=body, content_type=JSON)
    assert response.status_code == 422
    assert response.json["errors"] == {"json": {"_schema": ["Must be an array of records."]}}


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"[", b"]", b"[1", b"[1,]", b"[,1]", b"[1 2]", b"[1] 2", b"[1]]", b"[{},", b"[NaN]", b"[Infinity]",
     b'["\xff"]', b"[]\xef\xbb\xbf", b"\xff\xfe[\0]\0", b"[" * 100_000, b'[{"a":' * 100_000, b"[1\x0c]", b"['a']",
     b'[{"model_name":"a\xff","duration_ms":1,"was_successful":true}]', b"[" + b"1" * 5000 + b"]",
    b"[{}]\x0c", b"\x0c[{}]", b"[{}]\xc2\xa0"],
)  # fmt: skip
def test_a_body_that_is_no_json_is_400(client: FlaskClient, body: bytes) -> None:
    response = client.post(PATH, data=body, content_type=JSON)
    assert response.status_code == 400
    assert response.json["errors"] == {"json": ["Invalid JSON body."]}


def test_malformed_json_stores_nothing_of_what_came_before(client: FlaskClient, record: Any, total: Any) -> None:
    body = array([record(), record()])[:-1] + b",{]"
    assert client.post(PATH, data=body, content_type=JSON).status_code == 400
    assert total() == 0


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "text/csv", "", None])
def test_another_content_type_is_415(client: FlaskClient, content_type: str | None) -> None:
    assert client.post(PATH, data=b"[]", content_type=content_type).status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/ndjson", "application/jsonl"])
def test_usual_spellings_of_the_content_types_are_taken(client: FlaskClient, content_type: str) -> None:
    body = b"[]" if "json;" in content_type else b""
    assert client.post(PATH, data=body, content_type=content_type).status_code == 200


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "compress"])
def test_another_content_encoding_is_415(client: FlaskClient, encoding: str) -> None:
    body = gzip.compress(gzip.compress(b"[]"))
    response = client.post(PATH, data=body, content_type=JSON, headers={"Content-Encoding": encoding})
    assert response.status_code == 415


# Gzip


def post_gzip(client: FlaskClient, body: bytes) -> TestResponse:
    return client.post(PATH, data=body, content_type=JSON, headers={"Content-Encoding": "gzip"})


def test_gzip_may_have_several_members(client: FlaskClient, record: Any) -> None:
    body = array([record(), record()])
    pieces = [body[start : start + 100] for start in range(0, len(body), 100)]
    assert receipt(post_gzip(client, b"".join(map(gzip.compress, pieces)))) == (200, 2, 0, [])
    assert receipt(post_gzip(client, gzip.compress(b"") + gzip.compress(b"[]") + gzip.compress(b""))) == (200, 0, 0, [])


def test_gzip_that_inflates_to_whole_chunks_is_read_to_its_end(client: FlaskClient) -> None:
    for size in (CHUNK, 16 * CHUNK, 32 * CHUNK, 32 * CHUNK + 1):
        for level in (0, 1, 9):
            assert receipt(post_gzip(client, gzip.compress(b"[]".ljust(size), level))) == (200, 0, 0, [])


def test_gzip_that_is_cut_short_is_400(client: FlaskClient, record: Any, total: Any) -> None:
    whole = gzip.compress(array([record()]))
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        response = post_gzip(client, whole[:length])
        assert response.status_code == 400, length
        assert response.json["errors"] == {"json": ["Invalid gzip body."]}
    assert total() == 0


def test_gzip_followed_by_something_else_is_400(client: FlaskClient, record: Any, total: Any) -> None:
    whole = gzip.compress(array([record()]))
    for rest in (b"x", b"[]", whole[:7], whole[:-1]):
        assert post_gzip(client, whole + rest).status_code == 400, rest
    assert total() == 0


def test_a_body_that_is_no_gzip_is_400(client: FlaskClient, record: Any) -> None:
    damaged = bytearray(gzip.compress(array([record()])))
    damaged[-6] ^= 1  # its checksum
    for body in (array([record()]), b"\x1f\x8b", bytes(damaged)):
        assert post_gzip(client, body).status_code == 400


# Memory


class Counted(BytesIO):
    """A stream that knows how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_a_gzip_bomb_is_stopped_while_it_inflates(app: Flask) -> None:
    member = gzip.compress(bytes(64 * MB))
    bomb = Counted(member * 64)  # 4 GB, in 4 MB
    length = len(bomb.getbuffer())
    context = app.test_request_context(input_stream=bomb, content_length=length, headers={"Content-Encoding": "gzip"})
    with context, traced() as peak, pytest.raises(HTTPException) as refused:
        read_body(request, 4 * MB)
    assert refused.value.code == 413
    assert peak() < 16 * MB
    assert bomb.taken <= 2 * CHUNK


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """How many bytes more than now are in use at the most, while the block lasts."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] if tracemalloc.is_tracing() else peak
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [b"1", b"{}", b"[]", b'""', b" "])
def test_millions_of_tiny_records_are_never_held_at_once(piece: bytes) -> None:
    bodies = {read_array: b"[" + b",".join([piece] * 2 * MB) + b"]", read_lines: b"\n".join([piece] * 4 * MB)}
    for read, body in bodies.items():
        with traced() as peak, suppress(HTTPException):
            read(body)
        assert peak() < 16 * MB, read


@pytest.mark.parametrize("piece", [b"1", b"{}", b"[]"])
def test_nor_are_they_beside_a_word_that_only_summaries_have(piece: bytes) -> None:
    body = b"[" + b",".join([b'"summary_id"', *[piece] * 2 * MB]) + b"]"
    with traced() as peak, suppress(HTTPException):
        read_array(body)
    assert peak() < 16 * MB


def test_millions_of_bins_of_a_summary_are_never_held_at_once(model: str) -> None:
    at = datetime.now(timezone.utc).replace(second=0, microsecond=0)
    whole = json.dumps(summary([prediction(model, at)])).encode()
    body = whole.replace(b'"bins": [', b'"bins": [' + b"[0,1]," * 2 * MB)
    for read in (read_array, read_lines):
        with traced() as peak, suppress(HTTPException):
            read(b"[" + body + b"]" if read is read_array else body)
        assert peak() < 64 * MB, read


# Idempotency


def test_a_batch_sent_twice_adds_nothing(send: Send, record: Any, total: Any) -> None:
    sent = [record(duration_ms=i) for i in range(50)]
    assert receipt(send(sent)) == (200, 50, 0, [])
    assert receipt(send(sent)) == (200, 0, 50, [])
    assert total() == 50


def test_a_record_twice_in_a_batch_is_stored_once(
    send: Send, record: Any, total: Any, client: FlaskClient, model: str
) -> None:
    sent = [record(duration_ms=i) for i in range(5)]
    assert receipt(send(sent + sent)) == (200, 5, 5, [])
    assert total() == 5
    assert stats(client, model)["average_duration_ms"] == 2


def test_what_a_single_prediction_has_stored_is_a_duplicate_in_a_batch(
    send: Send, record: Any, log: Any, total: Any
) -> None:
    first = record()
    log(**first)
    assert receipt(send([first, record()])) == (200, 1, 1, [])
    assert total() == 2


def test_records_without_a_request_id_are_all_stored(send: Send, record: Any, total: Any) -> None:
    sent = [{key: value for key, value in record().items() if key != "request_id"}] * 2
    assert receipt(send(sent)) == (200, 2, 0, [])
    assert receipt(send(sent)) == (200, 2, 0, [])
    assert total() == 4


def test_the_same_request_id_at_another_time_is_another_prediction(send: Send, record: Any, total: Any) -> None:
    first = record(timestamp="2025-06-09T12:00:00Z")
    assert receipt(send([first, {**first, "timestamp": "2025-06-09T12:00:00.000001Z"}])) == (200, 2, 0, [])
    assert total() == 2


def test_the_same_moment_written_otherwise_is_a_duplicate(send: Send, record: Any) -> None:
    first = record(timestamp="2025-06-09T12:00:00.5Z")
    again = {**first, "timestamp": "2025-06-09T17:30:00.500000+05:30", "request_id": first["request_id"].upper()}
    assert receipt(send([first, again])) == (200, 1, 1, [])


def test_overlapping_batches_at_the_same_time_store_each_record_once(
    app: Flask, server: Server, record: Any, total: Any, client: FlaskClient, model: str, refresh: Callable[[], None]
) -> None:
    concurrent(server)
    roomy = make_app(server.url, max_concurrent_batches=8, lock_timeout_ms=TIMEOUT_S * 1000)
    now = datetime.now(timezone.utc)
    sent = [
        record(duration_ms=i, timestamp=(now - timedelta(seconds=i * 37)).isoformat(), was_successful=i % 3 > 0)
        for i in range(2000)
    ]
    # Each overlaps its neighbours, half of them run backwards.
    batches = [sent[i * 200 : i * 200 + 800][:: -1 if i % 2 else 1] for i in range(7)]
    answers = together([partial(post, roomy, batch) for batch in batches])
    assert [answer.status_code for answer in answers] == [200] * 7
    assert sum(answer.json["stored"] for answer in answers) == 2000
    assert sum(answer.json["duplicates"] for answer in answers) == 7 * 800 - 2000
    for _ in range(2):
        found = stats(client, model)
        assert (found["total_requests"], found["failed_requests"]) == (2000, 667)
        assert (found["min_duration_ms"], found["max_duration_ms"], found["average_duration_ms"]) == (0, 1999, 999.5)
        refresh()


def post(app: Flask, records: Records, **headers: str) -> TestResponse:
    return app.test_client().post(PATH, json=records, headers=headers)


def together(calls: list[Callable[[], TestResponse]]) -> list[TestResponse]:
    """Make all calls at the same time."""
    answers: list[TestResponse | None] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def make(i: int) -> None:
        gate.wait(TIMEOUT_S)
        answers[i] = calls[i]()

    threads = [threading.Thread(target=make, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    return [answer for answer in answers if answer is not None]


def concurrent(server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")


# All or nothing


DISK_FULL = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.model_name = '{model}' AND new.error = 'the last straw' THEN
        RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER {name} BEFORE INSERT ON prediction_log FOR EACH ROW EXECUTE FUNCTION {name}()
"""


@pytest.fixture
def full_disk(database: Engine, model: str) -> Iterator[Callable[[], None]]:
    """The server's disk is full when it comes to the record of this test's model with the error "the last straw"."""
    name = f"disk_full_{uuid4().hex}"
    drop = f"DROP FUNCTION IF EXISTS {name}() CASCADE"
    with database.connect() as connection:
        connection.exec_driver_sql(DISK_FULL.format(name=name, model=model))
    try:
        yield lambda: run(database, drop)
    finally:
        run(database, drop)


def run(database: Engine, statement: str) -> None:
    with database.connect() as connection:
        connection.exec_driver_sql(statement)


def test_a_database_that_fails_in_the_middle_stores_nothing(
    send: Send, record: Any, total: Any, full_disk: Callable[[], None], client: FlaskClient, model: str
) -> None:
    sent = [record() for _ in range(100)]
    sent[50]["error"] = "the last straw"
    told = dropped_report(model)
    response = send(sent, **reported(told))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert total() == 0
    assert stats(client, model)["dropped"] == 0
    full_disk()
    assert receipt(send(sent, **reported(told))) == (200, 100, 0, [])
    assert (total(), stats(client, model)["dropped"]) == (100, told["count"])


def test_a_connection_that_breaks_in_the_middle_stores_nothing(
    server: Server, database: Engine, record: Any, total: Any
) -> None:
    concurrent(server)
    app = make_app(server.url, lock_timeout_ms=TIMEOUT_S * 1000)
    sent = [record() for _ in range(100)]
    with unfinished(database, sent[50]) as end, waiting(lambda: post(app, sent)) as answer:
        pid = waiter(database)
        run(database, f"SELECT pg_terminate_backend({pid})")
        assert answer().status_code == 503
        end()
    assert total() == 0
    assert receipt(post(app, sent)) == (200, 100, 0, [])


INSERT = """
INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful, request_id)
VALUES (%(timestamp)s, %(model_name)s, %(duration_ms)s, %(was_successful)s, %(request_id)s)
"""


@contextmanager
def unfinished(database: Engine, record: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """Hold a transaction that stores this record, so that a request with it waits; roll back at the end."""
    connection: Connection
    with database.connect() as connection:
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        transaction = connection.begin()
        connection.exec_driver_sql(INSERT, record)
        try:
            yield transaction.rollback
        finally:
            transaction.close()


@contextmanager
def waiting(call: Callable[[], TestResponse]) -> Iterator[Callable[[], TestResponse]]:
    """Send a request that is not answered yet; yield a function that waits for its answer."""
    answers: list[TestResponse] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()

    def answer() -> TestResponse:
        thread.join(TIMEOUT_S)
        return answers[0]

    try:
        yield answer
    finally:
        thread.join(TIMEOUT_S)


def waiter(database: Engine, number: int = 1) -> int:
    """Wait until so many connections wait for a lock; returns the process id of one of them."""
    query = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND application_name = 'predlog' AND datname = current_database()"
    )
    until = time.monotonic() + TIMEOUT_S
    with database.connect() as connection:
        while time.monotonic() < until:
            pids = connection.exec_driver_sql(query).scalars().all()
            if len(pids) >= number:
                return int(pids[0])
            time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


# Overload


def test_more_batches_than_the_service_takes_are_503_while_single_writes_and_reads_get_through(
    server: Server, database: Engine, record: Any, client: FlaskClient
) -> None:
    concurrent(server)
    app = make_app(server.url, max_concurrent_batches=2, lock_timeout_ms=TIMEOUT_S * 1000)
    stuck, other = record(), f"other-{uuid4().hex}"
    with (
        unfinished(database, stuck) as end,
        waiting(lambda: post(app, [stuck])) as first,
        waiting(lambda: post(app, [stuck])) as second,
    ):
        try:
            waiter(database, 2)
            response = post(app, [record(model_name=other)])
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) >= 1
            single = app.test_client().post("/api/v1/predict-log", json=record(model_name=other))
            assert single.status_code == 200
            assert stats(app.test_client(), other)["total_requests"] == 1
            assert app.test_client().get("/health").status_code == 200
        finally:
            end()
        stored = [receipt(answer()) for answer in (first, second)]
    assert sorted(stored) == [(200, 0, 1, []), (200, 1, 0, [])]
    assert receipt(post(app, [record(model_name=other)])) == (200, 1, 0, [])


def test_a_refused_batch_does_not_keep_its_place(server: Server, record: Any) -> None:
    app = make_app(server.url, max_concurrent_batches=1, pool_size=1)
    client = app.test_client()
    for _ in range(3):
        assert client.post(PATH, data=b"[", content_type=JSON).status_code == 400
        assert client.post(PATH, data=b"[1]", content_type=JSON).status_code == 422
        assert client.post(PATH, data=b"x", content_type=JSON, headers={"Content-Encoding": "gzip"}).status_code == 400
    assert receipt(post(app, [record()])) == (200, 1, 0, [])


# Dropped predictions


# Ten days ago, at noon.
NOON = floor(datetime.now(timezone.utc), DAY) - 10 * DAY + timedelta(hours=12)


def at(**later: float) -> str:
    return (NOON + timedelta(**later)).isoformat()


def dropped_report(model: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "model_name": model,
        "timestamp": at(),
        "reason": "queue_full",
        "count": 7,
        **fields,
    }


def reported(*reports: dict[str, Any]) -> dict[str, str]:
    return {"Predlog-Dropped": json.dumps(reports)}


def test_losses_are_counted_once_however_often_they_are_reported(
    send: Send, record: Any, client: FlaskClient, model: str
) -> None:
    reports = [
        dropped_report(model),
        dropped_report(model, reason="expired", count=2),
        dropped_report(f"{model}-other"),
    ]
    sent = [record(timestamp=at(seconds=30)) for _ in range(3)]
    for _ in range(3):
        assert send(sent, **reported(*reports)).status_code == 200
    found = stats(client, model)
    assert (found["total_requests"], found["dropped"], found["completeness"]) == (3, 9, 3 / 12)


def test_the_header_is_known_by_the_name_that_clients_before_0_2_give_it(client: FlaskClient, model: str) -> None:
    sent = {"Predlog-Discarded": json.dumps([dropped_report(model)])}
    assert client.post(PATH, json=[], headers=sent).status_code == 200
    assert stats(client, model)["dropped"] == 7


def test_losses_belong_to_their_minute(send: Send, record: Any, client: FlaskClient, model: str) -> None:
    send([record(timestamp=at(seconds=30))], **reported(dropped_report(model, timestamp=at(hours=1, minutes=5))))
    series = client.get(
        "/api/v1/stats/timeseries",
        query_string={
            "model_name": model,
            "from": at(),
            "to": at(hours=3),
            "bucket": "1h",
        },
    ).json
    found = [(point["total_requests"], point["dropped"], point["completeness"]) for point in series["points"]]
    assert found == [(1, 0, 1.0), (0, 7, 0.0), (0, 0, None)]
    assert stats(client, model, **{"from": at(hours=1, minutes=5), "to": at(hours=1, minutes=6)})["dropped"] == 7
    assert stats(client, model, **{"from": at(hours=1, minutes=6), "to": at(hours=3)})["dropped"] == 0


def test_losses_are_kept_with_an_empty_batch(send: Send, client: FlaskClient, model: str) -> None:
    assert receipt(send([], **reported(dropped_report(model)))) == (200, 0, 0, [])
    assert stats(client, model)["dropped"] == 7


def test_reports_are_kept_if_no_record_is_valid(send: Send, client: FlaskClient, model: str) -> None:
    assert send([{}], **reported(dropped_report(model))).status_code == 422
    assert stats(client, model)["dropped"] == 7


NO_REPORTS = [
    "",
    json.dumps([dropped_report("модель")], ensure_ascii=False).encode().decode("latin-1"),
    "x",
    "{}",
    "[1]",
    "[NaN]",
    "[" * 10_000,
    json.dumps([{}]),
    json.dumps([dropped_report("a", reason="lazy")]),
    json.dumps([dropped_report("a", count=0)]),
    json.dumps([dropped_report("a", count=-1)]),
    json.dumps([dropped_report("a", count=1.5)]),
    json.dumps([dropped_report("a", count=MAX_COUNT + 1)]),
    json.dumps([dropped_report("a", count=MAX_COUNT), dropped_report("a", count=1)]),
    json.dumps([dropped_report("a", id="1")]),
    json.dumps([dropped_report("a", timestamp="1999-01-01T00:00:00Z")]),
    json.dumps([dropped_report("a", timestamp="2999-01-01T00:00:00Z")]),
    json.dumps([dropped_report("a", timestamp=at(days=-21))]),
    json.dumps([dropped_report("")]),
    json.dumps([dropped_report("a", surprise=1)]),
    json.dumps([dropped_report("a") for _ in range(101)]),
]


@pytest.mark.parametrize("header", NO_REPORTS, ids=range(len(NO_REPORTS)))
def test_a_malformed_report_of_losses_is_422_and_nothing_is_stored(
    client: FlaskClient, record: Any, total: Any, header: str
) -> None:
    response = client.post(PATH, json=[record()], headers={"Predlog-Dropped": header})
    assert response.status_code == 422
    assert set(response.json["errors"]["headers"]) == {"Predlog-Dropped"}
    assert total() == 0
