"""What a record looks like when it leaves: nothing in it that the service would refuse."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import time
import uuid

import pytest

from misbehaving import errors_of
from predlog.record import belongs_to, encode
from predlog.uuid7 import draw, spell, uuid7


def line(**fields):
    values = {
        "name": "m", "duration": 1.5, "success": True, "version": None, "error": None,
        "metadata": None, "timestamp": None, "request_id": None, **fields,
    }  # fmt: skip
    return encode((time.time_ns(), draw(62), *values.values()))


def sent(**fields):
    record = json.loads(line(**fields))
    assert errors_of(record) == {}
    return record


def test_nul_and_lone_surrogates_are_replaced_everywhere():
    record = sent(name="a\x00b\ud800", version="v\x00\udfff", error="e\x00\udcff", metadata={"k\x00": "v\ud83d"})
    text = json.dumps(record, ensure_ascii=False)
    assert "\\u0000" not in text and text.encode()
    assert record["error"].startswith("e\ufffd") and record["metadata"] == {"k\ufffd": "v?"}


def test_a_backslash_before_a_nul_and_a_spelled_out_nul_are_not_mixed_up():
    assert sent(metadata={"a": "\\\x00", "b": "\\u0000"})["metadata"] == {"a": "\\\ufffd", "b": "\\u0000"}


def test_characters_of_every_plane_are_kept():
    assert sent(error="цена 価格 😀", metadata={"😀": "é"})["metadata"] == {"😀": "é"}


def test_a_long_error_and_a_long_version_are_cut():
    record = sent(error="é" * 10_000, version="v" * 300)
    assert record["error"] == "é" * 4096 and record["model_version"] == "v" * 200


def test_an_exception_given_as_the_error_is_described():
    assert sent(error=ValueError("x"))["error"] == "ValueError: x"
    assert sent(error=ValueError())["error"] == "ValueError"


def test_metadata_that_is_too_large_gives_way_to_a_note():
    assert sent(metadata={"a": "x" * 5000})["metadata"] == {"predlog_left_out": "5008 bytes of JSON, more than 4096"}
    assert sent(metadata={"a": "é" * 2044})["metadata"] == {"a": "é" * 2044}  # 4096 bytes


def test_what_json_has_no_word_for_is_said_in_other_words():
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


def test_metadata_that_refers_to_itself_gives_way_to_a_note():
    metadata = {}
    metadata["self"] = metadata
    assert "RecursionError" in sent(metadata=metadata)["metadata"]["predlog_left_out"]


def test_numpy_values_are_numbers():
    numpy = pytest.importorskip("numpy")
    record = sent(
        duration=numpy.float32(1.5),
        success=numpy.bool_(False),
        metadata={"score": numpy.float32(0.5), "n": numpy.int64(3), "row": numpy.array([1.0, math.nan])},
    )
    assert record["duration_ms"] == 1.5 and record["was_successful"] is False
    assert record["metadata"] == {"score": 0.5, "n": 3, "row": [1.0, None]}


def test_a_version_may_be_a_number():
    assert sent(version=3)["model_version"] == "3"


def test_the_model_and_moment_of_an_encoded_record_can_be_read_back():
    moment = datetime.datetime(2025, 6, 9, 12, 0, 5, tzinfo=datetime.timezone.utc)
    assert belongs_to(line(name="é", timestamp=moment)) == ("é", int(moment.timestamp()) * 1_000_000_000)


def test_identifiers_are_uuids_of_version_7_in_the_order_they_were_drawn():
    drawn = [uuid7() for _ in range(2000)]
    assert drawn == sorted(drawn) and len(set(drawn)) == 2000
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant) for text in drawn} == {(7, uuid.RFC_4122)}


def test_an_identifier_holds_its_moment():
    text = spell(1_749_470_400_123_999_999, (1 << 62) - 1)
    assert int(text.replace("-", "")[:12], 16) == 1_749_470_400_123
    assert text[14:] == "7fff-bfff-ffffffffffff"


def test_identifiers_do_not_follow_a_seed_of_the_hosts():
    import random

    random.seed(42)
    first = draw(62)
    random.seed(42)
    assert draw(62) != first
