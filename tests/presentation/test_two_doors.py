"""One contract, two doors: a batch takes and refuses the same records as the single endpoint, with the same meaning.

Records are generated as JSON text, since one value has many spellings: escapes, exponents, white space, keys that
come twice.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import marshmallow as ma
import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from app.application.predictions import Batch
from app.domain.predictions import NO_VERSION, Prediction
from app.presentation.batch import read_array, read_lines
from app.presentation.parsing import loads
from app.presentation.predictions import PredictionSchema

NO_JSON = {"_schema": ["Invalid JSON."]}
SCHEMA = PredictionSchema()

SPACE = st.sampled_from(["", "", "", " ", "\t", "\r", "  "])
MORE_SPACE = st.sampled_from(["", "", "", " ", "\n", "\r\n\t", "\u00a0", "\x0c"])


def joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


# Pieces of strings as they stand between the quotation marks.
PIECES = st.one_of(
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=5),
    st.sampled_from(
        ["a", "\\n", "\\u0041", "\\u00e9", "ж", "\\ud83d\\ude00", "😀", "\\/", '\\"', "\\\\", "\x7f", "\u2028"]
    ),
    st.sampled_from(
        ["a", "b", "\\u0000", "\\\\u0000", "\\ud800", "\\udc00\\ud800", "\\uD83D\\u0041", "\\x41", "\\u12", "\t"]
    ),
)
STRINGS = joined('"', st.lists(PIECES, max_size=4).map("".join), '"')
LENGTHS = [0, 1, 199, 200, 201, 4095, 4096, 4097]
LONG = st.tuples(st.sampled_from(LENGTHS), st.sampled_from(["x", "ж", "😀", "\\u0041", "\\ud83d\\ude00"])).map(
    lambda long: f'"{long[1] * long[0]}"'
)
NUMBERS = st.one_of(
    st.integers(-10, 10**6).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(0).map(str),
    st.floats(0, 1e5).map(lambda number: f"{number:.20e}"),
    st.decimals(0, 10**20, places=25).map(str),
    st.sampled_from(
        ["0", "-0", "-0.0", "0e0", "1E5", "1e+2", "1e-400", "1e292", "1.0000000000000001e292", "1.1e292", "1e293"]
    ),
    st.sampled_from(
        ["1e308", "1e309", "-1e309", "1" * 308, "1" * 400, "1" * 4400, "1" * 400 + ".5", "4.9e-324", "2e-324"]
    ),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1e", "0x10", "1_000", "--1", "１"]),
)
BOOLEANS = st.sampled_from(["true", "false"])
ODDITIES = st.sampled_from(["null", "[]", "{}", "True", "", "nul", '"1"', "[1]", "'a'"])
VALUES = st.one_of(STRINGS, NUMBERS, BOOLEANS, ODDITIES)

NOW = st.sampled_from([-1, 0, 290, 310, 90_000]).map(
    lambda seconds: (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
)
DATES = ["2024-02-29", "2025-02-29", "2000-01-01", "1999-12-31", "0001-01-01", "9999-12-31", "2025-6-9", "20250609"]
CLOCKS = ["23:59:59", "00:00:00", "24:00:00", "12:00:60", "12:60:00", "12:00", "1:00:00", "120000"]
MOMENTS = st.one_of(
    st.just("2025-06-09T12:00:00"),
    st.sampled_from(DATES).map(lambda day: f"{day}T00:00:00"),
    st.sampled_from(CLOCKS).map(lambda clock: f"2025-06-09T{clock}"),
    st.sampled_from(["2025-06-09 12:00:00", "2025-06-09t12:00:00", "2025-06-09_12:00:00", "2025-06-09", "1749470400"]),
    NOW,
)
DIGITS = st.text("0123456789", min_size=1, max_size=9).map(lambda digits: f".{digits}")
HALVES = [".1234565", ".1234564999", ".9999995", ".999999500", ".0000005"]
FRACTIONS = st.one_of(
    st.just(""),
    DIGITS,
    st.sampled_from(HALVES),
    st.sampled_from([".", ",5", ".12345678901", ".1234564999999", "." + "9" * 40]),
)
OFFSETS = st.one_of(
    st.sampled_from(["", "Z", "z", "+00:00", "-00:00", "+05:30", "-0330"]),
    st.sampled_from(["+14:00", "-15:59", "+16:00", "-16:00", "+23:59", "-23:59"]),
    st.sampled_from(["+24:00", "+12:60", "-99:99", "+00:00:01", "+05", " Z", "+1", "Z+00:00", "UTC", "[UTC]"]),
)
TIMES = st.one_of(joined(MOMENTS, OFFSETS), joined(st.one_of(st.just("2025-06-09T12:00:00"), NOW), FRACTIONS, OFFSETS))
TIMESTAMPS = joined('"', TIMES, '"')

SPELLINGS = ("{0}", "{1}", "{{{0}}}", "urn:uuid:{0}", " {0}", "{0}-", "x{0}", "({0})")
UUIDS = st.builds(
    lambda uuid, spelling, case: '"' + case(spelling.format(uuid, uuid.hex)) + '"',
    st.builds(UUID, int=st.integers(0, 2**128 - 1)),
    st.sampled_from(SPELLINGS),
    st.sampled_from([str.lower, str.upper]),
)


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda items: f"[{', '.join(items)}]")


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keys = st.one_of(st.sampled_from(['"a"', '"b"', '"\\u0061"', '""']), STRINGS)
    members = st.lists(joined(keys, SPACE, ":", SPACE, values), max_size=4)
    return members.map(lambda members: f"{{{','.join(members)}}}")


METADATA = st.one_of(
    objects(st.recursive(VALUES, lambda inner: st.one_of(arrays(inner), objects(inner)), max_leaves=8)),
    objects(st.recursive(st.one_of(BOOLEANS, NUMBERS), objects, max_leaves=4)),
    st.integers(4077, 4092).map(lambda size: '{"a":"' + "x" * size + '"}'),
    st.integers(4077, 4092).map(lambda size: '{ "a" : "' + "\\u0041" * size + '" }'),
    st.integers(1, 90).map(lambda depth: '{"a":' + "[" * depth + "]" * depth + "}"),
)

# Of each field what is usual, and what may be odd about it.
FIELDS = {
    "model_name": (st.sampled_from(['"a"', '"ж"', '"\\u0041"']), st.one_of(STRINGS, LONG)),
    "duration_ms": (st.floats(0, 1e5).map(str), NUMBERS),
    "was_successful": (BOOLEANS, BOOLEANS),
    "timestamp": (st.just('"2025-06-09T12:00:00.123456Z"'), TIMESTAMPS),
    "model_version": (st.just('"1"'), st.one_of(STRINGS, LONG)),
    "error": (st.just('"no"'), st.one_of(STRINGS, LONG)),
    "metadata": (st.just('{"a":1}'), METADATA),
    "request_id": (st.just('"0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"'), UUIDS),
    "id": (NUMBERS, NUMBERS),
    "surprise": (VALUES, VALUES),
}
REQUIRED = ["model_name", "duration_ms", "was_successful"]
OPTIONAL = ["timestamp", "model_version", "error", "metadata", "request_id"]
RARELY = st.sampled_from([False] * 30 + [True])


@st.composite
def records(draw: st.DrawFn, space: st.SearchStrategy[str] = SPACE) -> str:
    """A JSON object that is nearly a record: something about one or two of its fields may be odd."""
    odd = draw(st.sets(st.sampled_from(REQUIRED + OPTIONAL), min_size=1, max_size=2))
    names = {*REQUIRED, *odd, *draw(st.lists(st.sampled_from(OPTIONAL), max_size=2))}
    if draw(RARELY):
        names.remove(draw(st.sampled_from(REQUIRED)))
    names = draw(st.permutations(sorted(names)))
    if draw(RARELY):  # a key that is unknown, or comes twice
        names.append(draw(st.sampled_from(sorted(FIELDS))))
    members = [draw(joined(space, _key(name), space, ":", space, _value(name, name in odd), space)) for name in names]
    return draw(space) + "{" + ",".join(members) + "}" + draw(space)


def _value(name: str, odd: bool) -> st.SearchStrategy[str]:
    usual, unusual = FIELDS[name]
    return RARELY.flatmap(lambda wrong: VALUES if wrong else unusual) if odd else usual


def _key(name: str) -> st.SearchStrategy[str]:
    escaped = f'"\\u{ord(name[0]):04x}{name[1:]}"'
    return st.sampled_from([f'"{name}"'] * 90 + [escaped, f'"{name.upper()}"', f"'{name}'"])


ANYTHING = st.one_of(*[records()] * 12, VALUES, METADATA).filter(str.strip)
LINES = ANYTHING.filter(lambda text: "\n" not in text)

FULL = (
    '{"model_name":"a","duration_ms":1.5,"was_successful":true,"timestamp":"2025-06-09T12:00:00.1234565+05:30",'
    '"model_version":"1","error":"no","metadata":{"a":[1,2.5,{"b":null}]},'
    '"request_id":"0197A1B2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}'
)


class Verdicts:
    """What a door says of the records of a batch: what is stored of those it takes, what is wrong with the others."""

    def __init__(self, stored: list[dict[str, Any]], rejected: dict[int, Any]) -> None:
        self.stored, self.rejected = stored, rejected

    def __eq__(self, other: object) -> bool:
        """Compared as text: 1 is not True, nor 1.0, and 0.0 is not -0.0."""
        return isinstance(other, Verdicts) and repr(self) == repr(other)

    def __repr__(self) -> str:
        return f"stored {self.stored}\nrejected {self.rejected}"


def one_by_one(texts: list[str]) -> Verdicts:
    """The verdicts of the single endpoint."""
    stored, rejected = [], {}
    for index, text in enumerate(texts):
        try:
            decoded = loads(text)
        except (ValueError, RecursionError):
            rejected[index] = NO_JSON
            continue
        try:
            stored.append(_what_is_stored(SCHEMA.load(decoded), given="timestamp" in decoded))
        except ma.ValidationError as error:
            rejected[index] = error.normalized_messages()
    return Verdicts(stored, rejected)


def _what_is_stored(prediction: Prediction, *, given: bool) -> dict[str, Any]:
    values = {name: value for name, value in vars(prediction).items() if value is not None}
    if prediction.model_version == NO_VERSION:
        del values["model_version"]
    values["timestamp"] = prediction.timestamp.isoformat() if given else "now"
    if "request_id" in values:
        values["request_id"] = str(prediction.request_id)
    return dict(sorted(values.items()))


def at_once(batch: Batch, texts: list[str]) -> Verdicts:
    """The verdicts of a batch, in the same words."""
    stored = json.loads(batch.records)
    rejected = dict(batch.rejected)
    assert len(stored) == batch.number
    assert list(rejected) == sorted(rejected)
    taken = [loads(text) for index, text in enumerate(texts) if index not in rejected]
    for values, sent in zip(stored, taken, strict=True):
        timestamp = datetime.fromisoformat(values["timestamp"].replace("Z", "+00:00"))
        offset = timestamp.utcoffset()
        assert offset is not None
        assert abs(offset) < timedelta(hours=16), "PostgreSQL knows no such offset"
        values["timestamp"] = timestamp.astimezone(timezone.utc).isoformat() if "timestamp" in sent else "now"
        values["duration_ms"] = float(values["duration_ms"])
    return Verdicts([dict(sorted(values.items())) for values in stored], rejected)


@settings(max_examples=600, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=3))
@example([FULL])
def test_each_line_of_a_batch_is_judged_as_the_single_endpoint_would(texts: list[str]) -> None:
    body = "\n".join(texts).encode()
    assert at_once(read_lines(body), texts) == one_by_one(texts)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(ANYTHING, records(MORE_SPACE)), min_size=1, max_size=3))
@example([FULL])
def test_each_element_of_an_array_is_judged_as_the_single_endpoint_would(texts: list[str]) -> None:
    body = f"[{','.join(texts)}]"
    if not is_json(body):
        with pytest.raises(HTTPException) as refused:
            read_array(body.encode())
        assert refused.value.code == 400
    else:
        assert at_once(read_array(body.encode()), texts) == one_by_one(texts)


def is_json(text: str) -> bool:
    try:
        loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# Through HTTP and the database: what is unusual about a record that both doors take.
UNUSUAL = [
    '"duration_ms":-0.0',
    '"duration_ms":1E292',
    '"duration_ms":5e-324',
    '"duration_ms":0.30000000000000004',
    '"duration_ms":123456789012345678901234567890',
    '"duration_ms":"x","duration_ms":1',
    '"timestamp":"2025-06-09T12:00:00.1234565"',
    '"timestamp":"2025-06-09t23:59:59.999999500z"',
    '"timestamp":"2025-06-09 12:00:00.123456789012-23:59"',
    '"timestamp":"2025-06-09T12:00:00+1600"',
    '"request_id":"urn:uuid:HEX"',
    '"request_id":"{UUID}"',
    '"model_version":"\\ud83d\\ude00 \\\\u0000"',
    '"error":""',
    '"error":"\\u2028\\/\x7f"',
    '"metadata":{}',
    '"metadata":{"a":1,"a":2,"\\u0061":3}',
    '"metadata" : { "a" : [ 1.0 , 1 , 1e2 , -0 , -0.0 , null , true , "\\\\u0000" ] }',
    '"metadata":{"a":12345678901234567890123456789012345678901234567890,"b":0.1234567890123456789}',
    '"metadata":{"a":' + "[" * 90 + "]" * 90 + "}",
    '"metadata":{"":"' + "😀" * 1021 + '"}',
]


@pytest.mark.parametrize("unusual", UNUSUAL, ids=lambda text: text[:40])
def test_both_doors_store_the_same_for_an_unusual_spelling(client: FlaskClient, model: str, unusual: str) -> None:
    usual = (
        f'{{"duration_ms":1,"was_successful":true,"timestamp":"2025-06-09T12:00:00Z",{unusual},"model_name":"MODEL"}}'
    )
    doors = {
        "single": ("predict-log", "application/json", "%s"),
        "array": ("predict-logs", "application/json", "[%s]"),
        "lines": ("predict-logs", "application/x-ndjson", "%s"),
    }
    stored = []
    for door, (path, content_type, body) in doors.items():
        name, uuid = f"{model}-{door}", uuid4()  # another one, or it were a duplicate
        sent = usual.replace("MODEL", name).replace("UUID", str(uuid)).replace("HEX", uuid.hex.upper())
        response = client.post(f"/api/v1/{path}", data=(body % sent).encode(), content_type=content_type)
        assert response.status_code == 200, response.text
        (call,) = client.get("/api/v1/predictions", query_string={"model_name": name}).json
        assert call.pop("request_id", str(uuid)) == str(uuid)
        stored.append(repr({key: value for key, value in call.items() if key not in ("id", "model_name")}))
    assert stored[0] == stored[1] == stored[2]
