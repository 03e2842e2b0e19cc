"""What a record looks like when it leaves: nothing in it that the service would refuse."""

from __future__ import annotations

import builtins
import collections
import dataclasses
import datetime
import decimal
import itertools
import json
import math
import time
import types
import uuid
from typing import Any

import pytest

from misbehaving import errors_of
from predlog.record import InvalidRecord, belongs_to, encode
from predlog.uuid7 import draw, spell, uuid7


def line(odd: Any = None, **fields: Any) -> Any:
    values = {
        "name": "m", "duration": 1.5, "success": True, "version": None, "error": None,
        "metadata": None, "timestamp": None, "request_id": None, **fields,
    }  # fmt: skip
    return encode((time.time_ns(), draw(62), *values.values()), odd)


def sent(**fields: Any) -> Any:
    record = json.loads(line(**fields))
    assert errors_of(record) == {}
    return record


def test_nul_and_lone_surrogates_are_replaced_everywhere() -> None:
    record = sent(name="a\x00b\ud800", version="v\x00\udfff", error="e\x00\udcff", metadata={"k\x00": "v\ud83d"})
    text = json.dumps(record, ensure_ascii=False)
    assert "\\u0000" not in text and text.encode()
    assert record["error"].startswith("e\ufffd") and record["metadata"] == {"k\ufffd": "v?"}


def test_a_backslash_before_a_nul_and_a_spelled_out_nul_are_not_mixed_up() -> None:
    assert sent(metadata={"a": "\\\x00", "b": "\\u0000"})["metadata"] == {"a": "\\\ufffd", "b": "\\u0000"}


def test_characters_of_every_plane_are_kept() -> None:
    assert sent(error="цена 価格 😀", metadata={"😀": "é"})["metadata"] == {"😀": "é"}


def test_a_long_error_and_a_long_version_are_cut() -> None:
    record = sent(error="é" * 10_000, version="v" * 300)
    assert record["error"] == "é" * 4096 and record["model_version"] == "v" * 200


def test_an_exception_given_as_the_error_is_described() -> None:
    assert sent(error=ValueError("x"))["error"] == "ValueError: x"
    assert sent(error=ValueError())["error"] == "ValueError"


def test_metadata_that_is_too_large_gives_way_to_a_note() -> None:
    assert sent(metadata={"a": "x" * 5000})["metadata"] == {"predlog_left_out": "5008 bytes of JSON, more than 4096"}
    assert sent(metadata={"a": "é" * 2044})["metadata"] == {"a": "é" * 2044}  # 4096 bytes


def test_what_json_has_no_word_for_is_said_in_other_words() -> None:
    record = sent(
        metadata={
            "nan": math.nan,
            "deep": [{"infinity": -math.inf}],
            "date": datetime.date(2025, 6, 9),
            "set": {1},
            "decimal": decimal.Decimal("1.50"),
            3: (1, 2),
            ("a", "b"): None,
        }
    )
    assert record["metadata"] == {
        "nan": None,
        "deep": [{"infinity": None}],
        "date": "2025-06-09",
        "set": [1],
        "decimal": "1.50",
        "3": [1, 2],
        "('a', 'b')": None,
    }


def depth_of(value: Any) -> Any:
    return (
        1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
        if isinstance(value, (dict, list))
        else 0
    )


def test_metadata_that_refers_to_itself_or_nests_too_deep_is_cut_where_the_service_ends() -> None:
    itself: dict[str, Any] = {"a": 1}
    itself["self"] = itself
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for metadata in (itself, {"a": 1, "deep": deep}):
        odd: list[str] = []
        metadata = json.loads(line(odd, metadata=metadata))["metadata"]
        assert metadata["a"] == 1 and depth_of(metadata) == 100 and len(odd) == 1


def test_metadata_that_multiplies_itself_ends_soon() -> None:
    doubled: dict[Any, Any] = {"a": 1.5}
    for _ in range(60):
        doubled = {("b",): [doubled, doubled]}
    assert "predlog_left_out" in sent(metadata=doubled)["metadata"]


class SizeIsAMethod:
    def size(self) -> Any:
        return (3,)

    def tolist(self) -> Any:
        return [1, 2, 3]

    def __str__(self) -> Any:
        return "a tensor"


class Tensor(SizeIsAMethod):
    def numel(self) -> Any:
        return 3


class Raises:
    def __init__(self, error: Any) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    def isoformat(self) -> None:
        raise self.error

    def tolist(self) -> None:
        raise self.error


class Endless:
    def tolist(self) -> Any:
        return Endless()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (SizeIsAMethod(), "predlog_left_out: AttributeError"),
        (datetime.datetime, "<class 'datetime.datetime'>"),
        (Raises(ValueError()), "predlog_left_out: ValueError"),
        (Raises(SystemExit()), "predlog_left_out: SystemExit"),
        (Endless(), "predlog_left_out: not JSON"),
        (10**400, "predlog_left_out: too large a number"),
        (10**5000, "predlog_left_out: too large a number"),  # more digits than Python writes
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_has_no_word_for_costs_that_value_alone_and_is_named(value: Any, kept: Any) -> None:
    odd: list[str] = []
    record = json.loads(line(odd, metadata={"good": 1, "bad": [value], Raises(ValueError()): 2}))
    assert record["metadata"] == {"good": 1, "bad": [kept], "(its str() failed)": 2}
    assert odd == [f"metadata.bad[0] ({type(value).__name__})"]


def test_a_tensor_is_its_numbers() -> None:
    assert sent(metadata={"a": Tensor()})["metadata"] == {"a": [1, 2, 3]}


@dataclasses.dataclass
class Features:
    rooms: int
    street: str


Pair = collections.namedtuple("Pair", "rooms street")


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        (Features(3, "a"), {"rooms": 3, "street": "a"}),
        (Pair(3, "a"), {"rooms": 3, "street": "a"}),
        (types.MappingProxyType({"rooms": 3}), {"rooms": 3}),
        ([1, 2], {"value": [1, 2]}),
        ("text", {"value": "text"}),
        (Features, {"value": str(Features)}),
        ({"inner": Features(3, "a")}, {"inner": {"rooms": 3, "street": "a"}}),
    ],
    ids=str,
)
def test_metadata_may_be_what_people_have(metadata: Any, kept: Any) -> None:
    assert sent(metadata=metadata)["metadata"] == kept


def test_a_pydantic_model_is_its_fields() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", rooms=(int, ...), inner=(dict, {}))
    assert sent(metadata=model(rooms=3))["metadata"] == {"rooms": 3, "inner": {}}
    assert sent(metadata={"a": model(rooms=3)})["metadata"] == {"a": {"rooms": 3, "inner": {}}}


NOON = "2025-06-09T12:00:00.500000+00:00"


@pytest.mark.parametrize(
    ("timestamp", "kept"),
    [
        ("2025-06-09T12:00:00.5Z", NOON),
        ("2025-06-09 15:00:00,500000001+03", NOON),
        ("2025-06-09T06:30:00.5-0530", NOON),
        ("2025-06-09", "2025-06-09T00:00:00.000000+00:00"),
        (datetime.date(2025, 6, 9), "2025-06-09T00:00:00.000000+00:00"),
        (1749470400.5, NOON),
        (decimal.Decimal("1749470400.5"), NOON),
        (datetime.datetime(2025, 6, 9, 12, 0, 0, 500_000), NOON),
    ],
    ids=repr,
)
def test_a_time_may_be_what_people_have(timestamp: Any, kept: Any) -> None:
    assert sent(timestamp=timestamp)["timestamp"] == kept


def test_times_of_numpy_and_pandas_are_times() -> None:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    for timestamp in (numpy.datetime64("2025-06-09T12:00:00.5"), pandas.Timestamp("2025-06-09T14:00:00.5+02:00")):
        assert sent(timestamp=timestamp)["timestamp"] == NOON
    assert sent(timestamp=numpy.float64(1749470400.5))["timestamp"] == NOON
    for timestamp in (pandas.NaT, numpy.datetime64("NaT"), numpy.datetime64(10**17, "D")):
        with pytest.raises(InvalidRecord):
            line(timestamp=timestamp)


class Timeless(datetime.datetime):
    def isoformat(self, *_: Any, **__: Any) -> Any:
        return "NaT"


def test_a_datetime_that_cannot_write_itself_is_written_all_the_same() -> None:
    assert sent(timestamp=Timeless(2025, 6, 9, 12, 0, 0, 500_000))["timestamp"] == NOON


@pytest.mark.parametrize(
    "timestamp",
    ["", "soon", "1999-12-31T23:59:59Z", "2025-02-30", True, b"2025-06-09", 1e300, math.nan, 1749470400500, [],
     datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5)))],
    ids=repr,
)  # fmt: skip
def test_a_wrong_time_is_rejected(timestamp: Any) -> None:
    with pytest.raises(InvalidRecord, match="timestamp"):
        line(timestamp=timestamp)


def test_an_identifier_that_is_no_uuid_is_kept_in_metadata_and_made_one_that_stays_the_same() -> None:
    first, again = sent(request_id="order-7", metadata={"a": 1}), sent(request_id="order-7")
    assert first["request_id"] == again["request_id"] != sent(request_id="order-8")["request_id"]
    assert first["metadata"] == {"request_id": "order-7", "a": 1} and again["metadata"] == {"request_id": "order-7"}
    assert sent(request_id=7)["metadata"] == {"request_id": "7"}
    assert uuid.UUID(sent(request_id="")["request_id"]).version == 7


def test_an_empty_version_is_none() -> None:
    assert "model_version" not in sent(version="")


def test_an_exception_is_described_with_its_notes_parts_and_cause() -> None:
    error = ValueError("x")
    error.__cause__ = KeyError("street")
    vars(error)["__notes__"] = ["a note"]
    assert sent(error=error)["error"] == "ValueError: x\n  a note\ncaused by KeyError: 'street'"
    error.__cause__.__cause__ = error
    assert sent(error=error)["error"].count("caused by") == 1


@pytest.mark.skipif(not hasattr(builtins, "ExceptionGroup"), reason="Python 3.11 has exception groups")
def test_an_exception_group_is_described_with_its_parts() -> None:
    error = vars(builtins)["ExceptionGroup"]("all", [ValueError("x"), KeyError("y")])
    assert sent(error=error)["error"].splitlines()[1:] == ["  ValueError: x", "  KeyError: 'y'"]


def test_a_duration_beyond_what_the_service_keeps_is_not_valid() -> None:
    for duration in (1e293, 10**300):
        with pytest.raises(InvalidRecord, match="duration_ms"):
            line(duration=duration)
    assert sent(duration=1e292)["duration_ms"] == 1e292


def test_numpy_values_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    record = sent(
        duration=numpy.float32(1.5),
        success=numpy.bool_(False),
        metadata={"score": numpy.float32(0.5), "n": numpy.int64(3), "row": numpy.array([1.0, math.nan])},
    )
    assert record["duration_ms"] == 1.5 and record["was_successful"] is False
    assert record["metadata"] == {"score": 0.5, "n": 3, "row": [1.0, None]}


def test_a_version_may_be_a_number() -> None:
    assert sent(version=3)["model_version"] == "3"


def test_the_model_and_moment_of_an_encoded_record_can_be_read_back() -> None:
    moment = datetime.datetime(2025, 6, 9, 12, 0, 5, tzinfo=datetime.timezone.utc)
    assert belongs_to(line(name="é", timestamp=moment)) == ("é", int(moment.timestamp()) * 1_000_000_000)


def test_identifiers_are_uuids_of_version_7_in_the_order_they_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    # The finest steps that an identifier tells apart: a coarser clock, or one that is set, knows no order.
    monkeypatch.setattr(time, "time_ns", itertools.count(time.time_ns(), 250).__next__)
    drawn = [uuid7() for _ in range(2000)]
    assert drawn == sorted(drawn) and len(set(drawn)) == 2000
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant) for text in drawn} == {(7, uuid.RFC_4122)}


def test_an_identifier_holds_its_moment() -> None:
    text = spell(1_749_470_400_123_999_999, (1 << 62) - 1)
    assert int(text.replace("-", "")[:12], 16) == 1_749_470_400_123
    assert text[14:] == "7fff-bfff-ffffffffffff"


def test_identifiers_do_not_follow_a_seed_of_the_hosts() -> None:
    import random

    random.seed(42)
    first = draw(62)
    random.seed(42)
    assert draw(62) != first
