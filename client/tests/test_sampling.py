"""Sampling: a share is sent whole, the rest is counted, and together they are all that was logged."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import predlog
from conftest import Program
from misbehaving import Service, free_port, wait_until
from predlog import Client
from predlog.batch import Batch
from predlog.dropped import Dropped
from predlog.ledger import Ledger
from predlog.record import SUMMARY, belongs_to, count_of
from predlog.record_queue import Intake
from predlog.sampling import MAX_BINS, Sampling, Summaries, bin_of
from predlog.settings import Settings
from predlog.throttled_log import Trouble


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Any:
    return make_client(sample=0.1)


@pytest.fixture
def one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged before flush() goes in one batch and is of one minute, however slow the machine is."""
    monkeypatch.setattr("predlog.sender.INITIAL_FLUSH", 60)
    now = time.time_ns()
    monkeypatch.setattr("predlog.client.time_ns", lambda: now)


def log(client: Client, count: Any = 1000, **fields: Any) -> None:
    for index in range(count):
        client.log("m", **{"duration_ms": index / 7, "was_successful": True, **fields})


def whole(service: Service) -> Any:
    return [record for record in service.records.values() if "summary_id" not in record]


# What is sent whole, and what is counted


def test_a_share_is_sent_whole_and_the_rest_is_counted(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(sample=0.1, flush_interval=60)
    log(client, 2000)
    assert client.flush()
    assert service.counted == {"m": 2000}
    assert 100 < len(whole(service)) < 320 and 0 < len(service.summaries) < 20
    stats = client.stats()
    assert (stats.sent, stats.summarized, stats.duplicates) == (len(whole(service)), 2000 - len(whole(service)), 0)


def test_failures_and_slow_calls_are_sent_whole(
    service: Service, make_client: Callable[..., Client], one_batch: None
) -> None:
    client = make_client(sample=0, sample_keep_slow_ms=100, flush_interval=60)
    log(client, 50, was_successful=False, error=ValueError("no"))
    log(client, 40, duration_ms=100)
    log(client, 30, duration_ms=99.9, version="2")
    assert client.flush()
    assert Counter(record["was_successful"] for record in whole(service)) == {False: 50, True: 40}
    (summary,) = service.summaries
    assert (summary["count"], summary["model_version"], summary["bins"]) == (30, "2", [[231, 30]])


def test_a_summary_says_what_its_calls_would(
    service: Service, make_client: Callable[..., Client], one_batch: None
) -> None:
    client = make_client(sample=0, flush_interval=60)
    for duration in (0.0, 0.1, 0.2, 0.3, 7, 7.0):
        client.log("m", duration, True)
    assert client.flush()
    (summary,) = service.summaries
    assert (summary["duration_ms_min"], summary["duration_ms_max"], summary["duration_ms_sum"]) == (0, 7, 14.6)
    assert summary["bins"] == [[-100_000, 1], [-115, 1], [-80, 1], [-60, 1], [98, 2]]
    assert 0 <= (datetime.now(timezone.utc) - datetime.fromisoformat(summary["timestamp"])).total_seconds() < 180


def test_without_sampling_all_is_sent_whole(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client()
    log(client, 20)
    assert client.flush() and len(whole(service)) == 20


def test_what_cannot_be_counted_is_sent_whole_or_rejected(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(sample=0)
    now = datetime.now(timezone.utc)
    client.log("again", 1, True, timestamp=now, request_id="order 7")  # the service stores it once
    client.log("again", 1, True, timestamp=now, request_id="order 7")
    client.log("id", 1, True, request_id="order 7")
    client.log("old", 1, True, timestamp=now - timedelta(days=2))
    client.log("late", 1, True, timestamp=now - timedelta(hours=2))
    client.log("endless", 1e200, True)
    client.log("m", cast(Any, "fast"), True)
    client.log("m", 1, True, timestamp="soon")
    client.log("", 1, True)
    assert client.flush()
    assert Counter(record["model_name"] for record in whole(service)) == {"again": 1, "old": 1, "endless": 1}
    assert {summary["model_name"]: summary["count"] for summary in service.summaries} == {"id": 1, "late": 1}
    assert client.stats().dropped == {"rejected": 3}


def test_before_send_is_asked_of_every_prediction(service: Service, make_client: Callable[..., Client]) -> None:
    def before_send(record: Any) -> Any:
        if record["model_name"] == "secret":
            return None
        return {**record, "model_name": "renamed"}

    client = make_client(sample=0, before_send=before_send)
    log(client, 10)
    client.log("secret", 1, True)
    assert client.flush()
    assert service.counted == {"renamed": 10} and not whole(service) and client.stats().withheld == 1


def test_defaults_hold_for_what_is_counted(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(sample=0, version="9", metadata={"a": 1})
    log(client, 10)
    assert client.flush() and service.summaries[0]["model_version"] == "9"


def test_a_copy_samples_too(service: Service, make_client: Callable[..., Client]) -> None:
    copy = pickle.loads(pickle.dumps(make_client(sample=0)))
    log(copy, 10)
    assert copy.close(5) and not whole(service) and service.counted == {"m": 10}


def test_mode_sync_may_sample(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(sample=0, mode="sync")
    log(client, 3)
    assert service.counted == {"m": 3} and client.stats().summarized == 3


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "all", True, float("nan")])
def test_a_share_is_from_0_to_1(make_client: Callable[..., Client], wrong: Any) -> None:
    with pytest.raises(ValueError, match="sample must be a number, from 0 to 1"):
        make_client(sample=wrong)


def test_the_environment_may_say_so(
    service: Service, make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDLOG_SAMPLE", "0")
    monkeypatch.setenv("PREDLOG_SAMPLE_KEEP_SLOW_MS", "50")
    client = make_client()
    log(client, 5, duration_ms=1)
    log(client, 4, duration_ms=60)
    assert client.flush() and len(whole(service)) == 4 and service.counted == {"m": 9}


# Nothing is lost or counted twice


@pytest.mark.parametrize("spooled", [False, True])
def test_retries_count_nothing_twice(
    service: Service, make_client: Callable[..., Client], tmp_path: Path, spooled: Any
) -> None:
    service.moods.extend([503, "reset", "lose", 500])
    client = make_client(sample=0.1, **({"spool_dir": tmp_path} if spooled else {}))
    log(client, 1000)
    assert client.flush(30)
    assert service.counted == {"m": 1000} and not service.lost
    assert client.stats().sent + client.stats().duplicates + client.stats().summarized == 1000


def test_a_summary_that_is_refused_is_counted_with_all_its_predictions(
    service: Service, make_client: Callable[..., Client]
) -> None:
    service.refuse = lambda record: "summary_id" in record
    client = make_client(sample=0)
    log(client, 300)
    assert client.flush()
    wait_until(lambda: service.lost == 300)
    assert client.stats().dropped == {"rejected": 300}


def test_what_expires_is_counted_with_all_its_predictions(service: Service, make_client: Callable[..., Client]) -> None:
    service.mood = 503
    client = make_client(sample=0, max_age=0.3)
    log(client, 300)
    time.sleep(0.5)
    service.mood = "ok"
    assert client.flush(30)
    wait_until(lambda: sum(service.counted.values()) + service.lost == 300)


def test_what_waits_is_counted_with_all_its_predictions(service: Service, make_client: Callable[..., Client]) -> None:
    with free_port() as port:
        client = make_client(f"http://127.0.0.1:{port}", sample=0)
        log(client, 300)
        assert not client.flush(0.2)
        wait_until(lambda: client.stats().queued == 300)
        assert not client.close(0.1)
        wait_until(lambda: client.stats().dropped == {"exit": 300})


def test_the_spool_holds_what_is_counted(service: Service, make_client: Callable[..., Client], tmp_path: Path) -> None:
    service.mood = 503
    away = make_client(sample=0.1, spool_dir=tmp_path)
    log(away, 1000)
    wait_until(lambda: away.stats().spooled == 1000)
    assert away.close(2)
    service.mood = "ok"
    client = make_client(spool_dir=tmp_path)
    client.log("next", 1, True)
    assert client.flush(30)
    wait_until(lambda: service.counted == {"m": 1000, "next": 1})


@pytest.mark.parametrize("failing", ["ok", 503])
def test_the_next_process_knows_what_a_killed_one_had(program: Program, service: Service, failing: Any) -> None:
    service.mood = failing
    program.run(
        """
        import os, signal, time, predlog
        log = predlog.Client(flush_interval=0.05, sample=0.1)
        for index in range(3000):
            log.log("m", duration_ms=index, was_successful=True)
            if index % 100 == 0:
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        code=-signal.SIGKILL,
    )
    service.settle()
    service.mood = "ok"
    with predlog.Client(service.url, flush_interval=0.05) as client:
        client.log("next", 1, True)
    total = service.counted["m"] + service.lost
    assert total >= 3000  # what was stored but not acknowledged counts as dropped, too
    assert service.counted["m"] <= 3000
    if failing != "ok":
        assert (service.counted["m"], service.lost) == (0, 3000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_counts_its_own(program: Program, service: Service) -> None:
    program.run("""
        import os, predlog
        log = predlog.Client(flush_interval=0.05, sample=0)
        for _ in range(100):
            log.log("parent", duration_ms=1, was_successful=True)
        pid = os.fork()
        for _ in range(10):
            log.log("child" if pid == 0 else "parent", duration_ms=1, was_successful=True)
        assert log.close(10)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    """)
    assert service.counted == {"parent": 110, "child": 10}


def test_in_an_outage_with_a_full_disk_summaries_that_are_put_back_take_no_more_and_more_records() -> None:
    dropped = Dropped()
    ledger = Ledger("", "http://localhost", None, 500)
    intake = Intake(Settings(sample=0, queue_size=1000), dropped, Trouble(), ledger, lambda: None)
    for number in range(100_000):
        intake.put(record(number, 1))
        if number % 500 == 0:
            batch = intake.drain()
            assert batch is not None
            intake.put_back(batch)
    waiting = len(intake.queue) + intake.beside
    assert waiting <= 1000 + ledger.size // 4
    assert waiting + dropped.totals["queue_full"] == 100_000


def test_what_was_put_back_is_counted_right_though_another_thread_takes_of_it_meanwhile() -> None:
    intake = Intake(Settings(sample=0), Dropped(), Trouble(), Ledger("", "http://localhost", None, 500), lambda: None)
    now = datetime.now(timezone.utc)  # of all: those of two minutes would make two summaries
    for number in range(10):
        intake.put(record(number, 1, timestamp=now))
    first = intake.drain()
    assert first is not None
    intake.put_back(first)
    assert intake.beside == 9

    class Numbers(tuple[int, ...]):
        def __len__(self) -> int:
            intake.drain()
            return 3

    intake.put_back(Batch([b"{}"], [Numbers((11, 12, 13))]))
    while intake.drain() is not None:
        pass
    assert intake.beside == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_draw_each_for_itself_what_is_sent_whole(program: Program) -> None:
    out = program.run("""
        import os, predlog
        from predlog.sampling import Sampling
        from predlog.settings import Settings
        sampling = Sampling(Settings(sample=0.5))
        for _ in range(3):
            if os.fork() == 0:
                print("".join(str(int(sampling.keeps(1, True))) for _ in range(64)), flush=True)
                os._exit(0)
            os.wait()
    """)
    assert len(set(out.split())) == 3


# Summaries


def record(number: int, duration: Any, name: str = "m", version: Any = None, timestamp: Any = None) -> Any:
    return (time.time_ns(), number, name, duration, True, version, None, None, timestamp, None)


durations = st.floats(0, 99_999) | st.sampled_from([0, 1, 5e-324, 1e-300, 7])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", None]), durations, st.integers(0, 3))))
def test_summaries_add_up_to_their_records(predictions: Any) -> None:
    now = datetime.now(timezone.utc)
    summaries = Summaries(Sampling(Settings(sample=0)))
    records = [
        record(number, duration, name, version, now - timedelta(minutes=minutes))
        for number, (name, version, duration, minutes) in enumerate(predictions)
    ]
    assert all(summaries.take(one, (*one[:-2], None, None)) for one in records)
    lines = list(summaries.lines())
    assert sorted(number for numbers, _ in lines for number in numbers) == list(range(len(predictions)))
    assert [len(numbers) for numbers, _ in lines] == [count_of(line) for _, line in lines]
    assert all(line.startswith(SUMMARY) and belongs_to(line)[0] in "abc" for _, line in lines)


def test_more_bins_than_a_summary_may_have_make_several() -> None:
    now = datetime.now(timezone.utc)
    summaries = Summaries(Sampling(Settings(sample=0)))
    spread = [1.021**index * 1e-30 for index in range(-2000, 3000)]
    for number, duration in enumerate(spread):
        one = record(number, duration, timestamp=now)
        assert summaries.take(one, one)
    lines = list(summaries.lines())
    assert len(lines) > 1 and sum(count_of(line) for _, line in lines) == len(spread)
    assert len({bin_of(duration) for duration in spread}) > MAX_BINS
