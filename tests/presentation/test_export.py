"""GET /api/v1/predictions/export"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.application.export import Block
from app.application.prediction_list import Cursor
from app.domain.errors import StorageUnavailable
from app.infrastructure import export_store
from app.presentation import export_stream
from app.presentation.schemas import export_parquet, export_text
from conftest import Server, make_app

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402 - only if it is there

LIST = "/api/v1/predictions"
URL = f"{LIST}/export"
FORMATS = ("ndjson", "csv", "parquet")
AWKWARD = ('comma, "quote"', "line\r\nend", "=1+1", "ü\u2028\x85", "", " ", "NULL", "\\N", "\\", "100%")
Log = Callable[..., dict[str, Any]]


def rows(response: TestResponse) -> list[dict[str, Any]]:
    """The exported predictions as the list has them."""
    assert response.status_code == 200, response.text
    if response.mimetype == "application/x-ndjson":
        return [json.loads(line) for line in response.data.split(b"\n")[:-1]]
    if response.mimetype == "text/csv":
        return [_typed(row) for row in csv.DictReader(io.StringIO(response.text, newline=""), strict=True)]
    records = parquet.read_table(io.BytesIO(response.data)).to_pylist()
    return [_present({**row, "timestamp": row["timestamp"].isoformat()}) for row in records]


def _typed(row: dict[str, str]) -> dict[str, Any]:
    numbers = {name: json.loads(row[name]) for name in ("id", "duration_ms", "was_successful")}
    return _present({**{name: value or None for name, value in row.items()}, **numbers})


def _present(row: dict[str, Any]) -> dict[str, Any]:
    metadata = {"metadata": json.loads(row["metadata"])} if row["metadata"] else {}
    return {key: value for key, value in {**row, **metadata}.items() if value is not None and (key, value) != VERSION}


VERSION = ("model_version", "")


def moment(row: dict[str, Any]) -> tuple[datetime, int]:
    return datetime.fromisoformat(row["timestamp"]), row["id"]


def exported(client: FlaskClient, model: str, **query: Any) -> list[dict[str, Any]]:
    return rows(client.get(URL, query_string={"model_name": model, **query}))


@pytest.fixture
def predictions(log: Log, midnight: datetime) -> list[dict[str, Any]]:
    """Predictions with all that can be logged, two of them at the same time; oldest first."""
    logged = [
        log(
            timestamp=(midnight + timedelta(seconds=n // 2, microseconds=n // 2)).isoformat(),
            duration_ms=[124, 0.1, 1e-7, 1e20, 196.09787918062904][n % 5],
            was_successful=n % 3 > 0,
            model_version=[None, "1", '"2",'][n % 3],
            error=text or None,
            metadata={"text": text, "list": [1, None, 1.5]} if n % 2 else None,
            request_id=str(uuid4()) if n % 4 else None,
        )
        for n, text in enumerate(AWKWARD)
    ]
    return sorted(logged, key=moment)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two predictions a block, and one block a transaction."""
    monkeypatch.setattr(export_store, "FETCH", "FETCH 2 FROM export")
    monkeypatch.setattr(export_store, "TRANSACTION_S", -1)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_all_predictions_as_they_were_logged_oldest_first(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]], name: str
) -> None:
    found = exported(client, model, format=name)
    assert [{**row, "timestamp": moment(row)} for row in found] == [
        {**row, "timestamp": moment(row)} for row in predictions
    ]


def test_an_empty_error_is_told_from_none(client: FlaskClient, log: Log, model: str) -> None:
    log(error="")
    assert exported(client, model)[0]["error"] == exported(client, model, format="parquet")[0]["error"] == ""
    assert b',"",,' in client.get(URL, query_string={"model_name": model, "format": "csv"}).data


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        ("*/*", "application/x-ndjson"),
        ("text/csv", "text/csv"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/html, */*;q=0.8", "application/x-ndjson"),
    ],
)
def test_accept_chooses_the_format(client: FlaskClient, model: str, accept: str, mimetype: str) -> None:
    response = client.get(URL, query_string={"model_name": model}, headers={"Accept": accept}, buffered=True)
    assert (response.status_code, response.mimetype) == (200, mimetype)


def test_the_parameter_goes_before_the_header(client: FlaskClient, model: str) -> None:
    query = {"model_name": model, "format": "csv"}
    response = client.get(URL, query_string=query, headers={"Accept": "application/x-ndjson"}, buffered=True)
    assert response.mimetype == "text/csv"


def test_parquet_says_of_each_group_what_readers_skip_groups_by(client: FlaskClient, log: Log, model: str) -> None:
    log(error="x" * 4000, metadata={"text": "x"})
    data = client.get(URL, query_string={"model_name": model, "format": "parquet"}).data
    group = parquet.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    told = {group.column(n).path_in_schema for n in range(group.num_columns) if group.column(n).is_stats_set}
    assert told == set(export_text.COLUMNS) - {"error", "metadata", "request_id"}


def test_a_format_that_nobody_can_write_is_refused(client: FlaskClient) -> None:
    response = client.get(URL, headers={"Accept": "application/json"})
    assert response.status_code == 406
    assert "text/csv" in response.json["message"]
    assert client.get(URL, query_string={"format": "xlsx"}).status_code == 422


def test_parquet_without_pyarrow_is_a_clear_406(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_parquet, "find_spec", lambda name: None)
    response = client.get(URL, query_string={"format": "parquet"})
    assert response.status_code == 406
    assert "pyarrow is not installed" in response.json["message"]


@pytest.mark.parametrize(
    "query",
    [
        {"model_version": "1"},
        {"model_version": ""},
        {"was_successful": "true"},
        {"was_successful": "false"},
        {"min_duration_ms": "100"},
        {"from": "+1s"},
        {"to": "+3s"},
        {"was_successful": "true", "min_duration_ms": "1", "from": "+1s"},
    ],
)
def test_the_filters_are_those_of_the_list(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]], midnight: datetime, query: dict[str, str]
) -> None:
    seconds = {value: (midnight + timedelta(seconds=int(value[1:-1]))).isoformat() for value in query.values()
               if value.endswith("s")}  # fmt: skip
    query = {name: seconds.get(value, value) for name, value in query.items()}
    listed = client.get(LIST, query_string={"model_name": model, **query}).json
    assert 0 < len(listed) < len(predictions)
    assert [row["id"] for row in exported(client, model, **query)] == [row["id"] for row in reversed(listed)]


def test_dates_are_days_of_the_zone(client: FlaskClient, log: Log, model: str) -> None:
    late = log(timestamp="2025-06-08T22:30:00Z")
    query = {"from": "2025-06-09", "to": "2025-06-09"}
    assert exported(client, model, **query) == []
    assert [row["id"] for row in exported(client, model, **query, timezone="Europe/Berlin")] == [late["id"]]


def test_it_goes_on_after_any_prediction(client: FlaskClient, model: str, predictions: list[dict[str, Any]]) -> None:
    for place, row in enumerate(predictions):
        rest = exported(client, model, cursor=f"{row['timestamp']},{row['id']}")
        assert [row["id"] for row in rest] == [row["id"] for row in predictions[place + 1 :]]


def test_a_cursor_may_be_pasted_into_the_address_as_the_line_has_it(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]]
) -> None:
    row = exported(client, model)[0]
    assert row["timestamp"].endswith("+00:00"), "in an address + stands for a space"
    rest = rows(client.get(f"{URL}?model_name={quote(model)}&cursor={row['timestamp']},{row['id']}"))
    assert [row["id"] for row in rest] == [row["id"] for row in predictions[1:]]


@pytest.mark.parametrize("cursor", ["x", "2025-06-09", "2025-06-09,x", "2025-06-09T12:00:00Z,0", ",1", "1,2025-06-09"])
def test_an_invalid_cursor_is_refused(client: FlaskClient, cursor: str) -> None:
    response = client.get(URL, query_string={"cursor": cursor})
    assert response.status_code == 422
    assert list(response.json["errors"]["query"]) == ["cursor"]


@pytest.mark.usefixtures("small_blocks")
def test_one_transaction_after_the_other_reads_each_prediction_once(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]]
) -> None:
    assert [row["id"] for row in exported(client, model)] == [row["id"] for row in predictions]


@contextmanager
def lost_after(monkeypatch: pytest.MonkeyPatch, *places: int) -> Iterator[None]:
    """Have transactions fail after so many blocks, one after the other."""
    begin, left = export_store.PostgresPredictionExport._transaction, list(places)

    def transaction(*arguments: Any) -> Iterator[Any]:
        number = left.pop(0) if left else 1_000_000
        for place, block in enumerate(begin(*arguments)):
            if place == number:
                break
            yield block
        else:
            return
        raise StorageUnavailable("The database is not available.")

    with monkeypatch.context() as patch:
        patch.setattr(export_store.PostgresPredictionExport, "_transaction", transaction)
        yield


@pytest.mark.usefixtures("small_blocks")
def test_a_transaction_that_is_lost_is_gone_on_with(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_store, "TRANSACTION_S", 60)
    with lost_after(monkeypatch, 2, 1):
        assert [row["id"] for row in exported(client, model)] == [row["id"] for row in predictions]


def test_a_database_that_is_away_is_told_before_anything_is_sent(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with lost_after(monkeypatch, 0):
        assert client.get(URL, query_string={"model_name": model}).status_code == 503
    assert len(exported(client, model)) == len(predictions)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("why", ["database", "time", "stop"])
def test_what_was_cut_has_no_end(
    client: FlaskClient,
    model: str,
    predictions: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    why: str,
) -> None:
    exports = client.application.extensions[export_stream.EXTENSION]
    whole = exported(client, model, format=name)
    monkeypatch.setattr(export_store, "TRANSACTION_S", 60 if why == "database" else -1)
    if why == "time":
        monkeypatch.setattr(exports, "timeout_s", -1)
    if why == "stop":
        monkeypatch.setattr(exports, "is_stopping", lambda: True)
    with lost_after(monkeypatch, 1, 0, 1, 0) if why == "database" else lost_after(monkeypatch):
        query = {"model_name": model, "format": name}
        cut = client.get(URL, query_string=query, buffered=True)
        packed = client.get(URL, query_string=query, headers={"Accept-Encoding": "gzip"}).data
    assert cut.status_code == 200
    if name == "parquet":
        with pytest.raises(pyarrow.ArrowInvalid):
            parquet.read_table(io.BytesIO(cut.data))
        return
    assert not cut.data.endswith(b"\n")
    cut.set_data(cut.data + b"\n")
    assert rows(cut) == whole[: 1 if name == "csv" else 2]  # a line of CSV is held back until there is another one
    with pytest.raises(EOFError):
        gzip.decompress(packed)
    assert zlib.decompressobj(export_text.GZIP).decompress(packed) + b"\n" == cut.data


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_export_has_its_end_even_without_predictions(client: FlaskClient, model: str, name: str) -> None:
    response = client.get(URL, query_string={"model_name": model, "format": name})
    assert rows(response) == []
    assert name != "csv" or response.data == export_text.HEADER.encode() + b"\r\n"


@pytest.mark.parametrize(("name", "encoding"), [("ndjson", "gzip"), ("csv", "gzip"), ("parquet", None)])
def test_text_is_compressed_if_the_caller_can_inflate_it(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]], name: str, encoding: str | None
) -> None:
    query = {"model_name": model, "format": name}
    response = client.get(URL, query_string=query, headers={"Accept-Encoding": "br, gzip"}, buffered=True)
    assert response.headers.get("Content-Encoding") == encoding
    if encoding:
        assert gzip.decompress(response.data) == client.get(URL, query_string=query).data
        assert "Accept-Encoding" in response.headers["Vary"]
    refused = client.get(URL, query_string=query, headers={"Accept-Encoding": "gzip;q=0, *"}, buffered=True)
    assert "Content-Encoding" not in refused.headers


def test_text_that_is_a_formula_to_spreadsheets_stays_as_it_was_logged(
    client: FlaskClient, model: str, log: Log
) -> None:
    log(error='=HYPERLINK("http://example.org")')
    response = client.get(URL, query_string={"model_name": model, "format": "csv"})
    assert '"=HYPERLINK(""http://example.org"")"' in response.text


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("packing", ["identity", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_finds_nothing_for_long_sends_bytes_that_change_nothing(
    client: FlaskClient,
    model: str,
    predictions: list[dict[str, Any]],
    log: Log,
    midnight: datetime,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    packing: str,
) -> None:
    for n in range(20):
        log(duration_ms=1, timestamp=(midnight + timedelta(minutes=n)).isoformat())
    query = {"model_name": model, "format": name, "min_duration_ms": "100"}
    headers = {"Accept-Encoding": packing}
    quiet = rows(_inflated(client.get(URL, query_string=query, headers=headers)))
    monkeypatch.setattr(export_stream, "MAX_SILENCE_S", -1)
    response = client.get(URL, query_string=query, headers=headers, buffered=False)
    parts = list(cast(Iterable[bytes], response.response))
    response.close()
    assert len(parts) > 10
    response.response = parts
    assert rows(_inflated(response)) == quiet != []


def _inflated(response: TestResponse) -> TestResponse:
    if response.content_encoding == "gzip":
        response.set_data(gzip.decompress(response.data))
    return response


@pytest.mark.usefixtures("small_blocks")
def test_an_export_that_finds_nothing_at_all_for_long_is_a_blank_line(
    client: FlaskClient, model: str, predictions: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_stream, "MAX_SILENCE_S", -1)
    found = client.get(URL, query_string={"model_name": model, "min_duration_ms": "1e21"}).data
    assert found.strip() == b""
    assert found.endswith(b"\n")


@pytest.mark.usefixtures("small_blocks")
def test_a_line_of_csv_that_is_sent_slowly_never_ends_with_a_line_end_before_the_export_is_whole() -> None:
    line = '1,"a\r\n\r\nb",'
    cursor = Cursor(datetime.now(timezone.utc), 1)
    blocks = [Block([line], cursor), *[Block([], cursor)] * 20]
    *parts, last = export_text.csv(blocks)
    assert not any(part.endswith(b"\n") for part in parts)
    assert b"".join([*parts, last]).decode() == f"{export_text.HEADER}\r\n{line}\r\n"


def test_no_piece_of_an_export_ends_with_a_line_end_unless_the_export_is_whole() -> None:
    text = b"\n".join([b"x" * (export_stream.PIECE_BYTES - 1), *[b"y" * 999] * 100])
    pieces = list(export_stream._pieces(text))
    assert b"".join(pieces) == text
    assert not any(piece.endswith(b"\n") for piece in pieces)


def large(model: str) -> dict[str, Any]:
    """A prediction of which a hundred are more than is handed to the server at once."""
    return {"model_name": model, "duration_ms": 1, "was_successful": True, "metadata": {"text": "x" * 4000}}


def test_an_export_beyond_the_limit_is_put_off_and_the_end_of_one_lets_another_begin(
    server: Server, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not server.concurrent:
        pytest.skip("one session cannot hold a transaction open beside another")
    monkeypatch.setattr(export_stream, "GRACE_S", 3600)  # however slow this machine is, the first one is not cut
    client = make_app(server.url, max_concurrent_exports=1).test_client()
    client.post("/api/v1/predict-logs", json=[large(model)] * 100)
    query = {"model_name": model}
    first = client.get(URL, query_string=query, buffered=False)
    busy = client.get(URL, query_string=query)
    assert busy.status_code == 503
    assert "Retry-After" in busy.headers
    assert client.head(URL, query_string=query).status_code == 200
    first.close()
    assert len(exported(client, model)) == 100
    assert len(exported(client, model)) == 100


def test_an_export_whose_client_reads_slowly_is_cut_if_another_one_needs_its_permit(
    server: Server, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not server.concurrent:
        pytest.skip("one session cannot hold a transaction open beside another")
    client = make_app(server.url, max_concurrent_exports=1).test_client()
    client.post("/api/v1/predict-logs", json=[large(model)] * 100)
    slow = client.get(URL, query_string={"model_name": model}, buffered=False)
    parts = iter(cast(Iterable[bytes], slow.response))
    sent = [next(parts)]
    monkeypatch.setattr(export_stream, "GRACE_S", -3600)  # as if it had waited for the client so long
    assert len(exported(client, model)) == 100
    rest = b"".join([*sent, *parts])
    assert rest.count(b"\n") < 100
    assert not rest.endswith(b"\n")
    slow.close()
    assert len(exported(client, model)) == 100


def test_an_export_under_way_holds_no_permit_and_no_connection_of_other_requests(server: Server, model: str) -> None:
    if not server.concurrent:
        pytest.skip("one session cannot hold a transaction open beside another")
    client = make_app(server.url, threads=1, pool_size=1).test_client()
    prediction = large(model)
    client.post("/api/v1/predict-logs", json=[prediction] * 100)
    under_way = client.get(URL, query_string={"model_name": model}, buffered=False)
    try:
        assert client.post("/api/v1/predict-log", json=prediction).status_code == 200
        assert client.get(LIST, query_string={"model_name": model}).status_code == 200
    finally:
        under_way.close()
