"""Whatever the client's log() takes, the service takes: the encoder of one against the door of the other."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import io
import json
import math
import time
import uuid
from typing import Any

from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import RequestIdConflict
from predlog.cli.ndjson import Line, Lines
from predlog.record import InvalidRecord, encode
from predlog.uuid7 import draw

SURROGATES = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["\x00", "\ud800", "a\udc00\x00", "\\\x00", "é" * 5000]
)
NUMBERS = (
    st.integers()
    | st.sampled_from([291, 299, 301, 5000]).map(lambda power: 10**power)
    | st.floats()
    | st.sampled_from([1e308, -0.0])
)
ZONES: Any = st.sampled_from(
    [None, datetime.timezone.utc, *(datetime.timezone(datetime.timedelta(minutes=m)) for m in (-1439, 330, 1439))]
)
PAST = datetime.datetime.now() - datetime.timedelta(days=2)
MOMENTS = (
    st.datetimes(timezones=ZONES)
    | st.datetimes(datetime.datetime(2000, 1, 3), PAST, timezones=ZONES)
    | st.dates(max_value=PAST.date())
)


@dataclasses.dataclass
class Features:
    """As people log them."""

    rooms: Any


class Failing:
    """A value whose text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit


LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, SURROGATES, st.binary(max_size=5), st.decimals(), st.uuids(), MOMENTS,
    st.sampled_from([Failing(), object, {1, 2}, complex(1, 2), decimal.Decimal("NaN")]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.dictionaries(SURROGATES | st.integers() | st.floats() | st.none(), inner, max_size=4),
        inner.map(Features),
        inner.flatmap(lambda value: st.sampled_from([98, 99, 100, 101, 2000]).map(lambda depth: nested(value, depth))),
    ),
    max_leaves=8,
)


def nested(value: Any, depth: int) -> Any:
    """The value in so many lists and dicts."""
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


PREDICTIONS = st.tuples(
    st.just("client values") | SURROGATES,
    NUMBERS | st.decimals(),
    st.booleans() | st.sampled_from([0, 1, 1.0]),
    st.none() | VALUES,
    st.none() | SURROGATES | st.just(ValueError("\x00\ud800")),
    st.none() | VALUES,
    st.none() | MOMENTS | NUMBERS | st.floats(0, time.time() - 9e4) | MOMENTS.map(str),
    st.none() | st.uuids() | SURROGATES | st.integers(),
)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
@given(st.lists(PREDICTIONS, min_size=1, max_size=10))
def test_whatever_the_client_takes_the_service_takes(client: FlaskClient, predictions: list[Any]) -> None:
    lines = []
    for prediction in predictions:
        try:
            line = encode((time.time_ns(), draw(62), *prediction))
        except InvalidRecord:
            continue
        moment = datetime.datetime.fromisoformat(json.loads(line)["timestamp"])
        if moment < datetime.datetime.now(datetime.timezone.utc):  # the service's clock decides of the future
            lines.append(line)
    answer = client.post(
        "/api/v1/predict-logs", data=b"[" + b",".join(lines) + b"]", headers={"Content-Type": "application/json"}
    )
    # Two predictions of other models may have been given the same id and time: that is told.
    told = answer.json["rejected"]
    assert all(each["errors"] == {"request_id": [RequestIdConflict.message]} for each in told), answer.text
    assert answer.json["stored"] + answer.json["duplicates"] + len(told) == len(lines)


def test_the_examples_are_taken(client: FlaskClient) -> None:
    now = time.time_ns()
    odd = {"a": math.nan, "b": Failing(), "c": nested(1, 3000), "d": object}
    lines = [
        encode((now, draw(62), "client values", 1, True, "", None, odd, "2025-06-09", "order-7")),
        encode((now, draw(62), "client values", 1, True, 3, None, [1, 2], 1749470400.5, str(uuid.uuid4()))),
    ]
    answer = client.post(
        "/api/v1/predict-logs", data=b"[" + b",".join(lines) + b"]", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200 and answer.json["rejected"] == [], answer.text


def test_a_line_with_null_for_what_is_not_given_is_stored_once_however_often_it_is_sent(client: FlaskClient) -> None:
    raw = b'{"model_name":"sent","duration_ms":1,"was_successful":true,"request_id":null,"timestamp":null}\n'
    for counted in ("stored", "duplicates"):
        (line,) = Lines(io.BytesIO(raw), "2025-06-09T12:00:00+00:00")
        assert isinstance(line, Line)
        data = b"[" + line.body + b"]"
        answer = client.post("/api/v1/predict-logs", data=data, headers={"Content-Type": "application/json"})
        assert answer.json[counted] == 1 and answer.json["rejected"] == [], answer.text
