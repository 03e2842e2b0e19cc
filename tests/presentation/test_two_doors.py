"""One contract, two doors: a batch takes and refuses the same records as the single endpoint, with the same meaning.

Records are generated as JSON text, since one value has many spellings: escapes, exponents, white space, keys that
come twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import marshmallow as ma
import pytest
from flask.testing import FlaskClient
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from app.application.predictions import Batch, PredictionColumns
from app.domain.predictions import NO_VERSION, Prediction
from app.presentation.batch_decoder import read_array, read_lines
from app.presentation.middleware.arguments import MAX_RECORD_BYTES, json_advice, loads
from app.presentation.middleware.request_body import BYTE_ORDER_MARK
from app.presentation.schemas.predictions import PredictionSchema
from support.mutations import damaged

# One moment for all, because generated values must not depend on the time of the run.
STARTED = datetime.now(timezone.utc)
NO_JSON = "Invalid JSON."
SCHEMA = PredictionSchema()

SPACE = st.sampled_from(["", "", "", " ", "\t", "\r", "  "])
MORE_SPACE = st.sampled_from(["", "", "", " ", "\n", "\r\n\t", "\u00a0", "\x0c"])


def joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


# Pieces of strings as they stand between the quotation marks: those that may be, and all.
FINE = st.one_of(
    st.sampled_from(
        ["a", "\\n", "\\u0041", "\\u00e9", "ж", "\\ud83d\\ude00", "😀", "\\/", '\\"', "\\\\", "\x7f", "\u2028"]
    ),
    st.sampled_from(["\\\\u0000", "%s", "{0}", "'"]),
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5),
)
PIECES = st.one_of(
    st.sampled_from(["\\u0000", "\\ud800", "\\udc00\\ud800", "\\uD83D\\u0041", "\\x41", "\\u12", "\t"]), FINE
)


def strings(pieces: st.SearchStrategy[str], min_size: int = 0) -> st.SearchStrategy[str]:
    return joined('"', st.lists(pieces, min_size=min_size, max_size=4).map("".join), '"')


def long(*lengths: int) -> st.SearchStrategy[str]:
    """Strings of so many characters, which may be several bytes or escapes each."""
    characters = st.sampled_from(["x", "ж", "😀", "\\u0041", "\\ud83d\\ude00"])
    return st.tuples(st.sampled_from(lengths), characters).map(lambda long: f'"{long[0] * long[1]}"')


NAMES = st.one_of(strings(FINE, min_size=1), long(1, 199, 200))
ERRORS = st.one_of(strings(FINE), long(0, 4095, 4096))
STRINGS = st.one_of(strings(PIECES, min_size=1), long(0, 200, 201, 4096, 4097))

DURATIONS = st.one_of(
    st.floats(0, 1e5).map(str),
    st.integers(0, 2**70).map(str),
    st.floats(0, 1e292).map(str),
    st.floats(0, 1e5).map(lambda number: f"{number:.20e}"),
    st.decimals(0, 10**20, places=25).map(str),
    st.sampled_from(["0", "-0", "-0.0", "0e0", "1E5", "1e+2", "1e-400", "1e292", "1" * 292, "4.9e-324", "2e-324"]),
)
NUMBERS = st.one_of(
    DURATIONS.map(str),  # one alternative, not as many as there are kinds
    st.integers(-(2**70), -1).map(str),
    st.sampled_from(["1.0000000000000001e292", "1.1e292", "1e293", "1e308", "1e309", "-1e309"]),
    st.sampled_from(["1" * 293, "1" * 308, "1" * 400, "1" * 4400, "1" * 400 + ".5"]),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1e", "0x10", "1_000", "--1", "１"]),
)
BOOLEANS = st.sampled_from(["true", "false"])
ODDITIES = st.sampled_from(["null", "[]", "{}", "True", "", "nul", '"1"', "[1]", "'a'"])
VALUES = st.one_of(STRINGS, NUMBERS, BOOLEANS, ODDITIES)

DATES = ["2025-06-09", "2024-02-29", "2000-01-01"]
NO_DATES = ["2025-02-29", "1999-12-31", "0001-01-01", "9999-12-31", "2025-6-9", "20250609"]
CLOCKS = ["12:00:00", "23:59:59", "00:00:00", "12:00"]
NO_CLOCKS = ["24:00:00", "12:00:60", "12:60:00", "1:00:00", "120000", "12"]
OFFSETS = ["Z", "", "z", "+00:00", "-00:00", "+05:30", "-0330", "+14:00", "-15:59", "+16:00", "-16:00", "+05", "-23:59"]
NO_OFFSETS = ["+24:00", "+12:60", "-99:99", "+00:00:01", " Z", "+1", "Z+00:00", "UTC", "[UTC]"]
DIGITS = st.text("0123456789", min_size=1, max_size=9).map(lambda digits: f".{digits}")
HALVES = [".1234565", ".1234564999", ".9999995", ".999999500", ".0000005", ",5", ".12345678901", "." + "9" * 40]
SECONDS_AGO = st.sampled_from([0, 1, 90_000, -290])
# So far ahead that it stays in the future while the tests run.
SECONDS_AHEAD = st.just(-90_000)


def moments(seconds_ago: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    return seconds_ago.map(lambda seconds: (STARTED - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S"))


def times(dates: list[str], clocks: list[str], fractions: st.SearchStrategy[str], offsets: list[str]) -> Any:
    day, clock = st.sampled_from(dates), st.sampled_from(clocks)
    return joined(day, st.sampled_from("T t"), clock, fractions, st.sampled_from(offsets))


FRACTIONS = st.one_of(st.just(""), DIGITS, st.sampled_from(HALVES))
# The first day there may be, in the time zones that make it the day before, is left to the odd ones.
TIMES = st.one_of(
    times(DATES[:2], CLOCKS[:3], FRACTIONS, OFFSETS),
    times(DATES, CLOCKS, st.just(""), OFFSETS[:5]),
    st.deferred(lambda: joined(moments(SECONDS_AGO), FRACTIONS, st.sampled_from(["", "Z", "+00:00"]))),
)
NO_TIMES = st.one_of(
    times(NO_DATES, CLOCKS, st.just(""), OFFSETS),
    times(DATES, NO_CLOCKS, st.just(""), OFFSETS[:5]),
    times(DATES, CLOCKS[:3], st.sampled_from(["", ".", ".1 "]), NO_OFFSETS),
    times(DATES[2:], CLOCKS[:3], FRACTIONS, OFFSETS),
    st.deferred(lambda: joined(moments(SECONDS_AHEAD), FRACTIONS, st.sampled_from(["", "Z", "+00:00"]))),
    st.sampled_from(["2025-06-09_12:00:00", "2025-06-09", "1749470400", "", "now", "2025-06-09T12:00.5Z"]),
)


def version_7(milliseconds: int) -> UUID:
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)


MILLISECONDS = st.one_of(
    st.integers(946_684_800_000, 1_750_000_000_000),
    st.sampled_from([0, 946_684_799_999, 253_402_300_799_999, 253_402_300_800_000, 2**48 - 1]),
)
UUIDS = st.one_of(st.builds(UUID, int=st.integers(0, 2**128 - 1)), st.builds(version_7, MILLISECONDS))


def uuids(*spellings: str) -> st.SearchStrategy[str]:
    return st.builds(
        lambda uuid, spelling, case: '"' + spelling.format(case(str(uuid)), case(uuid.hex)) + '"',
        UUIDS,
        st.sampled_from(spellings),
        st.sampled_from([str.lower, str.upper]),
    )


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda items: f"[{', '.join(items)}]")


def objects(keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(joined(keys, SPACE, ":", SPACE, values), max_size=4)
    return members.map(lambda members: f"{{{','.join(members)}}}")


def trees(strings: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keys = st.one_of(st.sampled_from(['"a"', '"b"', '"\\u0061"', '""']), strings)
    return objects(
        keys, st.recursive(values, lambda inner: st.one_of(arrays(inner), objects(keys, inner)), max_leaves=8)
    )


def of_size(*sizes: int) -> st.SearchStrategy[str]:
    """Metadata of so many bytes, however they are written."""
    spellings = st.sampled_from([('{"a":"', "x"), ('{ "a" : "', "\\u0041")])
    return st.tuples(st.sampled_from(sizes), spellings).map(lambda of: f'{of[1][0]}{of[1][1] * (of[0] - 8)}"}}')


def of_depth(*depths: int) -> st.SearchStrategy[str]:
    return st.sampled_from(depths).map(lambda depth: '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}")


METADATA = st.one_of(
    trees(strings(FINE), st.one_of(strings(FINE), DURATIONS, BOOLEANS, st.just("null"))),
    of_size(4095, 4096),
    of_depth(1, 99, 100),
)
NO_METADATA = st.one_of(*[trees(STRINGS, VALUES)] * 3, of_size(4097), of_depth(101, 900, 100_000))

# For each field values that both decoders accept, in every spelling, and values that are nearly valid.
FIELDS = {
    "model_name": (NAMES, STRINGS),
    "duration_ms": (DURATIONS, NUMBERS),
    "was_successful": (BOOLEANS, ODDITIES),
    "timestamp": (joined('"', TIMES, '"'), joined('"', NO_TIMES, '"')),
    "model_version": (NAMES, STRINGS),
    "error": (ERRORS, STRINGS),
    "metadata": (METADATA, NO_METADATA),
    "request_id": (
        uuids("{0}", "{1}", "{{{0}}}", "urn:uuid:{0}"),
        uuids(" {0}", "{0}-", "x{0}", "({0})", "0x{1:.30}", "{1:.31}_", "{1:.31}"),
    ),
}
REQUIRED = ["model_name", "duration_ms", "was_successful"]
OPTIONAL = ["timestamp", "model_version", "error", "metadata", "request_id"]
NOW_AND_THEN = st.sampled_from([False] * 12 + [True])
RARELY = st.sampled_from([False] * 30 + [True])


@st.composite
def records(draw: st.DrawFn, space: st.SearchStrategy[str] = SPACE) -> str:
    """A JSON object that is a record, or nearly one: up to two of its fields are odd in most of the others."""
    odd = draw(st.lists(st.sampled_from(REQUIRED + OPTIONAL), max_size=2, unique=True))
    names = sorted({*REQUIRED, *odd, *draw(st.lists(st.sampled_from(OPTIONAL), max_size=2))})
    names = draw(st.permutations(names))
    if draw(RARELY):
        names.remove(draw(st.sampled_from(REQUIRED)))
    if draw(NOW_AND_THEN):  # a key that is unknown, or comes twice
        names.insert(draw(st.integers(0, len(names))), draw(st.sampled_from([*FIELDS, "id", "surprise"])))
    members = [draw(joined(space, _key(name), space, ":", space, _value(name, name in odd), space)) for name in names]
    return draw(space) + "{" + ",".join(members) + "}" + draw(space)


def _value(name: str, odd: bool) -> st.SearchStrategy[str]:
    usual, unusual = FIELDS.get(name, (VALUES, VALUES))
    if name in OPTIONAL:
        usual = st.one_of(usual, st.just("null"))
    return RARELY.flatmap(lambda wrong: VALUES if wrong else unusual) if odd else usual


def _key(name: str) -> st.SearchStrategy[str]:
    escaped = f'"\\u{ord(name[0]):04x}{name[1:]}"'
    return st.sampled_from([f'"{name}"'] * 90 + [escaped] * 5 + [f'"{name.upper()}"', f"'{name}'"])


# A longer record is too large a body for the single endpoint.
ANYTHING = st.one_of(*[records()] * 12, VALUES, METADATA).filter(
    lambda text: text.strip() and len(text.encode()) <= MAX_RECORD_BYTES
)
LINES = ANYTHING.filter(lambda text: "\n" not in text)

FULL = (
    '{"model_name":"a","duration_ms":1.5,"was_successful":true,"timestamp":"2025-06-09T12:00:00.1234565+05:30",'
    '"model_version":"1","error":"no","metadata":{"a":[1,2.5,{"b":null}]},'
    '"request_id":"0197A1B2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}'
)


class Verdicts:
    """The results of a decoder for a batch: the predictions to store, and the errors of the other records."""

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
        except (ValueError, RecursionError) as error:
            rejected[index] = {"_schema": [NO_JSON, *json_advice(error)]}
            continue
        try:
            stored.append(_stored_values(SCHEMA.load(decoded), told=_tells_its_time(decoded)))
        except ma.ValidationError as error:
            rejected[index] = error.normalized_messages()
    return Verdicts(stored, rejected)


def _tells_its_time(sent: dict[str, Any]) -> bool:
    return sent.get("timestamp") is not None or sent.get("request_id") is not None


def _stored_values(prediction: Prediction, *, told: bool) -> dict[str, Any]:
    values = {name: value for name, value in vars(prediction).items() if value is not None}
    if prediction.model_version == NO_VERSION:
        del values["model_version"]
    values["timestamp"] = prediction.timestamp.isoformat() if told else "now"
    if "request_id" in values:
        values["request_id"] = str(prediction.request_id)
    return dict(sorted(values.items()))


def at_once(batch: Batch, texts: list[str]) -> Verdicts:
    """The verdicts of a batch, in the same words."""
    stored, rejected = (
        list(zip(*vars(batch.predictions).values())),
        {place: rejection.errors for place, rejection in batch.rejected},
    )
    assert list(rejected) == sorted(rejected)
    taken = [loads(text) for index, text in enumerate(texts) if index not in rejected]
    return Verdicts([_what_a_batch_stores(row, sent) for row, sent in zip(stored, taken, strict=True)], rejected)


def _what_a_batch_stores(row: tuple[Any, ...], sent: dict[str, Any]) -> dict[str, Any]:
    values = dict(zip([column.name for column in fields(PredictionColumns)], row, strict=True))
    assert values["timestamp"].tzinfo is timezone.utc, "PostgreSQL knows no offset of 16 hours or more"
    assert type(values["duration_ms"]) is float
    if values["metadata"] is not None:
        values["metadata"] = loads(values["metadata"])
    prediction = Prediction(**values)
    return _stored_values(prediction, told=_tells_its_time(sent))


def test_half_of_the_records_that_are_generated_are_taken_and_most_others_nearly() -> None:
    kinds: Counter[str] = Counter()

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    @given(records())
    def judge(text: str) -> None:
        wrong = one_by_one([text]).rejected.get(0, {})
        is_json = NO_JSON not in wrong.get("_schema", [])
        kinds["taken" if not wrong else str(min(wrong)) if is_json else "no JSON"] += 1

    judge()
    assert kinds["taken"] > 300, kinds
    assert kinds["no JSON"] < 300, kinds
    assert all(kinds[name] >= 3 for name in FIELDS), kinds


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


@settings(max_examples=600, deadline=None)
@given(st.data(), records())
def test_a_damaged_line_is_judged_as_the_single_endpoint_would(data: st.DataObject, text: str) -> None:
    line = (
        data.draw(damaged(text.encode(errors="surrogatepass"))).replace(b"\n", b"").strip()
    )  # space around is not read
    # A line with a byte order mark alone is blank. How deep the interpreter reads depends on how deep its own stack is
    # by then, here and in the service.
    assume(line.removeprefix(BYTE_ORDER_MARK).strip() and line.count(b"[") + line.count(b"{") < 500)
    assert at_once(read_lines(line), [decoded(line)]) == one_by_one([decoded(line)])


@settings(max_examples=600, deadline=None)
@given(st.data(), st.lists(records(), min_size=1, max_size=2))
def test_a_damaged_array_is_refused_if_it_is_no_json_any_more(data: st.DataObject, texts: list[str]) -> None:
    body = b"[" + data.draw(damaged(",".join(texts).encode(errors="surrogatepass"))) + b"]"
    if is_json(decoded(body)):
        batch = read_array(body)
        assert len(batch.predictions) + len(batch.rejected) == len(loads(decoded(body)))
    else:
        with pytest.raises(HTTPException) as refused:
            read_array(body)
        assert refused.value.code == 400


def decoded(body: bytes) -> str:
    """The text of a body; of one that is not UTF-8 nothing, which is no JSON either."""
    try:
        return body.decode("utf-8-sig")  # both doors skip a byte order mark
    except UnicodeDecodeError:
        return ""


# Through HTTP and the database: unusual records that both decoders accept.
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
    '"request_id":"UUID","timestamp":null',
    '"error":null,"metadata":null,"model_version":null,"request_id":null',
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
        # Another one, or it were a duplicate.
        name, uuid = f"{model}-{door}", UUID(int=version_7(1_749_470_400_000).int | uuid4().int >> 72)
        sent = usual.replace("MODEL", name).replace("UUID", str(uuid)).replace("HEX", uuid.hex.upper())
        response = client.post(f"/api/v1/{path}", data=(body % sent).encode(), content_type=content_type)
        assert response.status_code == 200, response.text
        (prediction,) = client.get("/api/v1/predictions", query_string={"model_name": name}).json
        assert prediction.pop("request_id", str(uuid)) == str(uuid)
        stored.append(repr({key: value for key, value in prediction.items() if key not in ("id", "model_name")}))
    assert stored[0] == stored[1] == stored[2]
