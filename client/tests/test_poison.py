"""Whatever is in the queue or the spool, and whatever the service answers: the rest is delivered."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import predlog
from misbehaving import Service, wait_until
from predlog import delivery
from predlog.batch import Batch
from predlog.counts import Tally
from predlog.delivery import Delivery
from predlog.settings import Settings
from predlog.spool_file import frame
from predlog.throttled_log import Trouble
from predlog.transport import Answer, Transport

# Cut off in the middle of an example, hypothesis would take the rest for flaky.
pytestmark = pytest.mark.timeout(300)
needs_spool = pytest.mark.skipif(os.name == "nt", reason="the spool needs file locks of POSIX")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["model_name", "timestamp", "request_id", "duration_ms", "metadata", "x"]
RECORDS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4)
NEARLY = st.fixed_dictionaries(
    {name: st.text(max_size=5) for name in ("id", "model_name", "reason")}
    | {
        "count": st.sampled_from([1, 60_000_000]) | st.integers(),
        "timestamp": st.text(max_size=5) | st.datetimes().map(lambda time: time.isoformat()),
    }
)
REPORTS = st.lists(
    st.dictionaries(st.sampled_from(["id", "model_name", "count", "reason", "timestamp"]), JSON) | JSON
) | st.lists(NEARLY, min_size=1, max_size=3)
PAYLOADS = st.one_of(
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" ")),
    RECORDS.map(lambda record: json.dumps(record).encode()),
    REPORTS.map(lambda reports: json.dumps(reports).encode()),
    st.sampled_from(
        [
            b"",
            b"{}",
            b'{"a":1},{"b":2}',
            b"1,2",
            b'{"a":1},2',
            b"{}]",
            b"{},",
            b'{"model_name":[]}',
            b"[1]",
            b"[" * 5000,
            b'{"a":' * 5000 + b"1" + b"}" * 5000,
            b'[{"count":-1}]',
            b'{"timestamp":"NaT","model_name":"m"}',
        ]
    ),
)


def report(**fields: Any) -> bytes:
    sound = {"id": "a", "model_name": "m", "reason": "rejected", "count": 1, "timestamp": "2025-01-01T00:00:00+00:00"}
    return json.dumps([{**sound, **fields}]).encode()


ANSWERS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([200, 207, 301, 400, 401, 404, 408, 413, 422, 429, 500, 503]).map(lambda status: (status, {})),
    st.sampled_from(["reset", "store_and_reset", "store_and_half", "page", "close", "ok"]),
)


class Whatever:
    """A value of which every method raises."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)

    def __str__(self) -> str:
        raise SystemExit

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    def __hash__(self) -> Any:
        return 1


class Huge:
    """Stands for 10**5000, of which Python refuses to make text: hypothesis could not name what it draws."""


class NoTime(datetime.datetime):
    """As pandas.NaT: a datetime, and no time."""

    year = property(lambda self: float("nan"))

    def isoformat(self, *_: Any, **__: Any) -> Any:
        return "NaT"


ODD = st.sampled_from([Whatever, NoTime(2025, 1, 1), Huge, float("nan"), "\ud800\x00", b"\xff", object, [], {}])
VALUES = ODD | JSON
CALLS = st.fixed_dictionaries(
    {"duration_ms": VALUES, "was_successful": VALUES | st.booleans()},
    optional={name: VALUES for name in ("version", "error", "metadata", "timestamp", "request_id")},
)


def made_of(value: Any) -> Any:
    """What a value drawn stands for, made where hypothesis does not look at it."""
    return Whatever() if value is Whatever else 10**5000 if value is Huge else value


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("INITIAL_BACKOFF", "MAX_BACKOFF"):
            patch.setattr(delivery, bound, 0.002)
            patch.setattr(delivery, f"{bound}_IF_MISCONFIGURED", 0.002)
        patch.setattr("predlog.sender.SOONEST", 0.002)
        yield


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CALLS, max_size=6), st.lists(ANSWERS, max_size=6))
@example([{"duration_ms": 1, "was_successful": True, "timestamp": NoTime(2025, 1, 1)}], [(400, {})] * 3)
def test_whatever_is_in_the_queue_the_rest_is_delivered(calls: Any, answers: Any) -> None:
    service = Service()
    service.moods.extend(answers)
    with predlog.Client(service.url, flush_interval=0.01, exit_timeout=30) as client:
        for number, call in enumerate(calls):
            odd = {name: made_of(value) for name, value in call.items()}
            client.log("odd", **odd)
            client.log("good", duration_ms=number, was_successful=True)
        client.log("good", duration_ms=1, was_successful=True)
        assert client.flush(30)
        stats = client.stats()
        assert service.models["good"] + stats.rejected >= len(calls) + 1
        assert stats.sent + stats.duplicates + stats.rejected == 2 * len(calls) + 1
        if not any(isinstance(answer, tuple) and answer[0] in (400, 413, 422) for answer in answers):
            assert service.models["good"] == len(calls) + 1
    service.stop()


@needs_spool
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PAYLOADS, max_size=5), st.lists(PAYLOADS, max_size=5), st.sampled_from(["fresh", "old", "full"]))
# The file that is being sent is larger than the cap by itself.
@example([b"{}", b'{"a":' * 5000 + b"1" + b"}" * 5000], [b"[]"], "full")
@example([report(timestamp="soon"), report(timestamp="0001-01-01T00:00:00")], [], "fresh")
def test_whatever_is_in_the_spool_the_rest_is_delivered(
    tmp_path_factory: pytest.TempPathFactory, first: Any, second: Any, state: Any
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    for number, payloads in enumerate([first, second]):
        path = directory / f"predlog-{number}.spool"
        path.write_bytes(b"".join(map(frame, payloads)) + (b"x" * 40_000 if state == "full" else b""))
        if state == "old":
            os.utime(path, (time.time() - 9e6, time.time() - 9e6))
    (directory / "predlog-2.spool").mkdir()
    (directory / "predlog-3.spool").symlink_to(directory / "predlog-0.spool")
    os.mkfifo(directory / "predlog-4.spool")
    service = Service()
    vars(service)["note_dropped"] = lambda header: None  # it insists on sound ones
    cap = 64 * 1024 if state == "full" else 1024 * 1024
    with predlog.Client(
        service.url, spool_dir=directory, flush_interval=0.01, spool_max_bytes=cap, exit_timeout=30
    ) as client:
        client.log("good", duration_ms=1, was_successful=True)
        # Beyond the cap the spool may drop the record, if it counts it: the file being sent cannot give way.
        wait_until(
            lambda: service.models["good"] == 1 or (state == "full" and client.stats().dropped.get("spool_full"))
        )
        wait_until(lambda: not any((directory / f"predlog-{number}.spool").is_file() for number in (0, 1)))
    service.stop()


def is_count(value: object) -> bool:
    return type(value) is int and value >= 0


class Odd(Transport):
    """A transport that answers each request with the next body, and then as Predlog does."""

    def __init__(self, bodies: Any) -> None:
        self.bodies = list(bodies)
        self.records: list[Any] = []

    def post(self, path: Any, body: Any, headers: Any, timeout: Any = None) -> Any:
        records = json.loads(body)
        if self.bodies:
            return Answer(200, self.bodies.pop(), None)
        self.records += records
        return Answer(200, json.dumps({"stored": len(records), "duplicates": 0, "rejected": []}).encode(), None)


@given(
    st.lists(
        st.binary(max_size=20)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.fixed_dictionaries({"stored": JSON, "duplicates": JSON, "rejected": JSON})
        .filter(lambda said: said["rejected"] or not is_count(said["stored"]) or not is_count(said["duplicates"]))
        .map(lambda said: json.dumps(said).encode()),
        max_size=5,
    )
)
def test_an_answer_that_is_none_of_predlogs_ends_no_batch(bodies: Any) -> None:
    transport = Odd(bodies)
    batch = Batch([b'{"model_name":"m"}'] * 3, youngest_ns=time.time_ns())
    sending = Delivery(Settings(), transport, Tally(), Trouble())
    for _ in range(len(bodies) + 3):
        sending.attempt(batch, lambda: 1.0)
    assert not batch.lines and not transport.bodies


def test_a_line_that_cannot_be_sent_at_all_is_given_up_alone() -> None:
    transport = Odd([])
    batch = Batch([b'{"a":1}', cast(bytes, "no bytes"), b'{"a":2}'], youngest_ns=time.time_ns())
    assert Delivery(Settings(), transport, Tally(), Trouble()).attempt(batch, lambda: 1.0) is None
    assert transport.records == [{"a": 1}, {"a": 2}] and batch.dropped.totals == {"rejected": 1}
