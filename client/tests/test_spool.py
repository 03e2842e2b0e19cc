"""Files that survive the process: written while the service is away, sent by the first process that comes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import predlog
from conftest import Program, threads_of_clients
from misbehaving import Service, free_port, port_to_serve_at, wait_until
from predlog import Client, spool
from predlog.batch import Batch
from predlog.dropped import Dropped
from predlog.settings import Settings
from predlog.spool_file import Segment, frame, frames
from predlog.throttled_log import Trouble

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the spool needs file locks of POSIX")

WRITER = """
    import sys, time, predlog
    count, directory, name, pause = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    log = predlog.Client(spool_dir=directory, flush_interval=0.1)
    for index in range(count):
        log.log(name, duration_ms=index, was_successful=True)
        if pause:
            time.sleep(pause)
        if index == 0:
            print("going", flush=True)
    print("logged", flush=True)
    sys.stdin.readline()
"""


def log(client: predlog.Client, count: int, model: str = "m") -> None:
    for index in range(count):
        client.log(model, duration_ms=index, was_successful=True)


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("predlog-*.spool"))


def contents(directory: Path) -> bytes:
    """What the files hold; a client may remove some meanwhile."""
    held = b""
    for path in files(directory):
        with contextlib.suppress(FileNotFoundError):
            held += path.read_bytes()
    return held


def spooled_lines(directory: Path) -> int:
    """Whole ones: a process may be killed in the middle of a line."""
    return len(re.findall(b'"duration_ms":.*\n', contents(directory)))


def has_written(client: Client) -> bool:
    return client.stats().queued == 0


def leave(service: Service, directory: Path, count: int) -> None:
    """Leave one file with so many records, as a process does whose service is away."""
    service.mood = 503
    client = predlog.Client(service.url, spool_dir=directory, flush_interval=0.05, batch_size=count)
    log(client, count)
    wait_until(lambda: client.stats().spooled == count)
    client.close(0.1)
    wait_until(lambda: not threads_of_clients())
    service.settle()
    service.mood = "ok"
    service.requests.clear()
    assert len(files(directory)) == 1


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "made" / "spool"


def test_what_was_acknowledged_leaves_no_file(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    client = make_client(spool_dir=directory, batch_size=50)
    log(client, 500)
    assert client.flush(30)
    assert len(service.records) == 500 and set(service.copies.values()) == {1}
    assert client.stats() == predlog.Stats(sent=500)
    assert client.close() and not files(directory)


def test_the_files_are_for_their_owner_alone(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.mood = 503
    client = make_client(spool_dir=directory)
    log(client, 5)
    wait_until(lambda: files(directory))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(files(directory)[0].stat().st_mode) == 0o600


def test_records_wait_in_files_while_the_service_is_away_and_are_sent_by_another_client(
    quick: None, directory: Path
) -> None:
    port = port_to_serve_at()
    client = predlog.Client(f"http://127.0.0.1:{port}", spool_dir=directory, flush_interval=0.05, queue_size=50)
    for _ in range(20):
        log(client, 40)
        wait_until(lambda: client.stats().queued == 0)
    wait_until(lambda: client.stats().spooled == 800 == spooled_lines(directory))
    assert client.close(0.3)
    assert client.stats().dropped == {} and spooled_lines(directory) == 800
    service = Service(port)
    with predlog.Client(service.url, spool_dir=directory, flush_interval=0.05) as other:
        log(other, 1, "other")
        wait_until(lambda: len(service.records) == 801)
        wait_until(lambda: not files(directory))
        assert other.stats().sent == 801
    service.stop()


def test_batches_that_grow_slowly_share_a_file(make_client: Callable[..., Client], directory: Path) -> None:
    with free_port() as port:
        client = make_client(f"http://127.0.0.1:{port}", spool_dir=directory, batch_size=1000)
        for _ in range(15):
            log(client, 3)
            wait_until(lambda: client.stats().queued == 0)
        wait_until(lambda: spooled_lines(directory) == 45)
        assert len(files(directory)) < 8


def test_a_hanging_service_does_not_keep_records_in_memory(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.mood = "hang"
    client = make_client(spool_dir=directory, timeout=60)
    log(client, 5)
    wait_until(lambda: service.requests)
    log(client, 100)
    wait_until(lambda: spooled_lines(directory) == 105 and client.stats().queued == 0)


def test_several_processes_share_a_directory_and_lose_nothing(
    program: Program, service: Service, directory: Path
) -> None:
    service.moods.extend([503, "reset", "store_and_reset", 429, "store_and_half"])
    path = str(program.write("writer.py", WRITER))
    writers = [program.start(path, "300", str(directory), f"writer {n}", "0", stdin=-1) for n in range(4)]
    for writer in writers:
        writer.communicate("\n", timeout=120)
        assert writer.returncode == 0
    with predlog.Client(service.url, spool_dir=directory, flush_interval=0.05) as last:
        log(last, 1)
        wait_until(lambda: len(service.records) == 1201)
        wait_until(lambda: not files(directory))


def test_a_killed_process_loses_at_most_its_last_flush_interval(
    program: Program, service: Service, directory: Path
) -> None:
    service.mood = 503
    path = str(program.write("writer.py", WRITER))
    writer = program.start(path, "20000", str(directory), "killed", "0.005", stdin=-1)
    assert writer.stdout is not None
    writer.stdout.readline()
    wait_until(lambda: spooled_lines(directory) > 100)
    before = spooled_lines(directory)
    wait_until(lambda: spooled_lines(directory) > before)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    kept = spooled_lines(directory)
    assert kept > before
    service.mood = "ok"
    with predlog.Client(service.url, spool_dir=directory, flush_interval=0.05) as heir:
        log(heir, 1)
        wait_until(lambda: service.models["killed"] == kept)
        wait_until(lambda: not files(directory))
    durations = sorted(record["duration_ms"] for record in service.records.values() if record["model_name"] == "killed")
    assert durations == list(range(kept))


def test_a_process_killed_again_and_again_leaves_every_spooled_record_to_be_stored_once(
    program: Program, service: Service, directory: Path
) -> None:
    path = str(program.write("writer.py", WRITER))
    service.moods.extend(["ok", 503, "store_and_reset", "hang", "reset"] * 3)
    for number in range(6):
        writer = program.start(path, "200", str(directory), f"life {number}", "0.001", stdin=-1)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05 * number + 0.1)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    service.moods.clear()
    service.released.set()
    lines = {line for path in files(directory) for line in path.read_text().splitlines()}
    on_disk = {line for line in lines if line[9:10] != "["}  # behind the checksum, a list is a report and no record
    with predlog.Client(service.url, spool_dir=directory, flush_interval=0.05) as heir:
        log(heir, 1)
        wait_until(lambda: not files(directory))
        torn = heir.stats().torn
    stored = {request_id for request_id, _ in service.records}
    missing = [line for line in on_disk if not any(request_id in line for request_id in stored)]
    assert len(missing) == torn
    for number in range(6):  # no hole before the end: only the last interval is lost
        name = f"life {number}"
        durations = sorted(r["duration_ms"] for r in service.records.values() if r["model_name"] == name)
        assert durations == list(range(len(durations)))


def test_a_live_writers_file_is_left_alone(
    program: Program, service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    with free_port() as port:
        environment = {"PREDLOG_PROXY": f"http://127.0.0.1:{port}"}
        path = str(program.write("writer.py", WRITER))
        writer = program.start(path, "30", str(directory), "live", "0", stdin=-1, environment=environment)
        assert writer.stdout is not None
        while writer.stdout.readline() != "logged\n":
            pass
        wait_until(lambda: spooled_lines(directory) == 30)
        newest = files(directory)[-1]
        assert newest.exists()
        client = make_client(spool_dir=directory)
        log(client, 1)
        wait_until(lambda: service.models["m"] == 1)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        wait_until(lambda: service.models["live"] == 30)


def test_half_a_line_is_skipped_and_counted(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    directory.mkdir(parents=True)
    leave(service, directory, 10)
    (path, *_) = files(directory)
    data = path.read_bytes()
    path.write_bytes(data[:-50])
    (directory / "predlog-rubbish.spool").write_bytes(b"\x00" * 100 + b"\n" + frame(b'{"a":1}')[:-3])
    (directory / "predlog-empty.spool").write_bytes(b"")
    (directory / "somebody else's").write_bytes(b"not ours")
    client = make_client(spool_dir=directory)
    log(client, 1)
    wait_until(lambda: not files(directory))
    wait_until(lambda: client.stats().torn == 3)
    wait_until(lambda: len(service.records) == 10)
    assert (directory / "somebody else's").exists()


def test_a_full_directory_gives_up_its_oldest_records_and_counts_them(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.mood = 503
    cap = 256 * 1024
    client = make_client(spool_dir=directory, spool_max_bytes=cap, batch_size=100)
    for round_ in range(40):
        log(client, 50, f"round {round_:02}")
        wait_until(lambda: client.stats().queued == 0)
    assert len(contents(directory)) <= cap + 32 * 1024
    assert client.stats().dropped["spool_full"] > 0
    service.mood = "ok"
    wait_until(lambda: len(service.records) + service.lost == 2000)
    assert service.lost_by("reason") == client.stats().dropped
    lost_rounds, kept_rounds = sorted(service.lost_by("model_name")), sorted(service.models)
    assert kept_rounds[-1] == "round 39"
    older_than_a_lost_one = [name for name in kept_rounds if name < lost_rounds[-1]]
    assert len(older_than_a_lost_one) <= 3  # those of the file that was in a request when room was made


def test_reports_in_a_file_that_is_evicted_are_kept(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.mood = 503
    client = make_client(spool_dir=directory, spool_max_bytes=64 * 1024, batch_size=50)
    client.log("", duration_ms=1, was_successful=True)
    wait_until(lambda: files(directory))
    for _ in range(30):
        log(client, 50)
        wait_until(lambda: client.stats().queued == 0)
    assert client.stats().dropped["spool_full"] > 0
    service.mood = "ok"
    wait_until(lambda: len(service.records) + service.lost == 1501)
    assert service.lost_by("reason")["rejected"] == 1


def test_the_cap_holds_over_several_clients(quick: None, directory: Path) -> None:
    cap = 128 * 1024
    with free_port() as port:
        clients = [
            predlog.Client(
                f"http://127.0.0.1:{port}", spool_dir=directory, spool_max_bytes=cap, flush_interval=0.05, batch_size=50
            )
            for _ in range(3)
        ]
        for _ in range(20):
            for client in clients:
                log(client, 25)
                wait_until(partial(has_written, client))
        assert len(contents(directory)) <= cap + 3 * 16 * 1024
        for client in clients:
            assert client.close(0.1)

    def known() -> int:
        return spooled_lines(directory) + sum(client.stats().dropped.get("spool_full", 0) for client in clients)

    wait_until(lambda: known() == 1500)


def test_old_files_expire_and_their_records_are_counted(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    leave(service, directory, 12)
    for path in files(directory):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    client = make_client(spool_dir=directory, max_age=600)
    log(client, 1)
    wait_until(lambda: len(service.records) == 1)
    wait_until(lambda: service.lost_by("reason") == {"expired": 12})


def leave_expired(service: Service, directory: Path, count: int) -> None:
    """Leave one file with so many records, an hour old, and the report of one that was rejected."""
    leave(service, directory, count)
    (path,) = files(directory)
    counted = Dropped()
    counted.add("m", time.time_ns(), "rejected")
    path.write_bytes(path.read_bytes() + frames([], counted.take()))
    os.utime(path, (time.time() - 3600, time.time() - 3600))


def test_expired_records_are_counted_once_however_long_the_service_is_away(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    leave_expired(service, directory, 12)
    service.mood = 503
    client = make_client(spool_dir=directory, max_age=600)
    log(client, 1)
    wait_until(lambda: len(service.requests) > 5)
    assert client.stats().dropped == {"expired": 12}
    service.mood = "ok"
    wait_until(lambda: not files(directory) and len(service.records) == 1)
    assert service.lost_by("reason") == {"expired": 12, "rejected": 1}


def test_what_is_settled_of_a_file_is_neither_sent_nor_counted_again(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    leave(service, directory, 10)
    (path,) = files(directory)
    path.write_bytes(path.read_bytes() + b"half a li")
    os.utime(path, (time.time() - 600, time.time() - 600))
    service.refuse = lambda record: record["duration_ms"] == 0
    service.mood = lambda records, headers: "ok" if records and records[0]["duration_ms"] == 0 else 503
    client = make_client(spool_dir=directory, batch_size=5)
    client.flush(0)
    wait_until(lambda: len(service.requests) > 5)
    with wait_for_the_lock(path) as segment:
        assert len(segment.lines) == 5 and [report["count"] for report in segment.reports] == [1]
        assert time.time_ns() - segment.written_ns > 500e9  # else a file that is tried again and again never expires
    assert client.stats() == predlog.Stats(sent=4, torn=1, dropped={"rejected": 1})
    service.mood = "ok"
    wait_until(lambda: not files(directory))
    assert client.stats() == predlog.Stats(sent=9, torn=1, dropped={"rejected": 1})
    assert set(service.copies.values()) == {1} and service.lost_by("reason") == {"rejected": 1}
    assert not list(directory.iterdir())


@contextlib.contextmanager
def wait_for_the_lock(path: Path) -> Iterator[Segment]:
    claimed: list[Segment] = []

    def claim() -> bool:
        if segment := Segment.claim(str(path)):
            claimed.append(segment)
        return bool(claimed)

    wait_until(claim)
    yield claimed[0]
    claimed[0].release()


@pytest.mark.parametrize(("call", "before"), [("replace", True), ("replace", False), ("unlink", True)])
def test_a_process_killed_while_it_settles_a_file_leaves_each_dropped_record_to_be_counted_once(
    program: Program, service: Service, directory: Path, call: str, before: Any
) -> None:
    """Before and after the records become a report, and after the service has that report."""
    leave_expired(service, directory, 12)
    killed = """
        import os, signal, sys, predlog
        directory, name, before = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
        call = getattr(os, name)
        def kill(path, *others):
            if name == "unlink" and not path.endswith(".spool"):
                return call(path)
            before or call(path, *others)
            os.kill(os.getpid(), signal.SIGKILL)
        log = predlog.Client(spool_dir=directory, max_age=600, flush_interval=0.05)
        setattr(os, name, kill)
        log.flush(30)
    """
    program.run(killed, str(directory), call, str(before), code=-signal.SIGKILL)
    assert service.lost_by("reason")["expired"] == (12 if call == "unlink" else 0)
    with predlog.Client(service.url, spool_dir=directory, max_age=600, flush_interval=0.05) as heir:
        heir.flush(0)
        wait_until(lambda: not files(directory))
    assert service.lost_by("reason") == {"expired": 12, "rejected": 1} and not list(directory.iterdir())


def test_a_file_that_cannot_be_written_anew_is_counted_once_too(
    service: Service, make_client: Callable[..., Client], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(segment: Segment, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    leave_expired(service, directory, 12)
    monkeypatch.setattr(Segment, "replace", full)
    service.mood = 503
    client = make_client(spool_dir=directory, max_age=600)
    client.flush(0)
    wait_until(lambda: len(service.requests) > 3)
    assert client.stats().dropped == {}
    service.mood = "ok"
    wait_until(lambda: service.lost_by("reason") == {"expired": 12, "rejected": 1})
    wait_until(lambda: not files(directory))
    assert client.stats().dropped == {"expired": 12}


def test_counts_of_dropped_records_survive_their_process(quick: None, directory: Path) -> None:
    port = port_to_serve_at()
    client = predlog.Client(f"http://127.0.0.1:{port}", spool_dir=directory, flush_interval=0.05, queue_size=10)
    log(client, 1000)
    client.log("", duration_ms=1, was_successful=True)
    wait_until(lambda: client.stats().queued == 0)
    assert client.close(0.2)
    service = Service(port)
    with predlog.Client(service.url, spool_dir=directory, flush_interval=0.05) as heir:
        log(heir, 1)
        wait_until(lambda: len(service.records) + service.lost == 1002)
    assert service.lost == sum(client.stats().dropped.values())
    assert heir.stats().dropped == {}
    service.stop()


def test_records_rejected_at_the_very_end_are_reported_too(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.refuse = lambda record: True
    client = make_client(spool_dir=directory, flush_interval=60)
    log(client, 5)
    assert client.close(30)
    assert service.lost_by("reason") == {"rejected": 5} and not files(directory)


def test_counts_of_the_very_end_are_kept_when_they_cannot_be_reported(
    service: Service, make_client: Callable[..., Client], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predlog.sender.INITIAL_FLUSH", 60)  # nothing is sent before the end
    later = (503, {"Retry-After": "600"})  # longer than the end may take: it is not waited for
    service.mood = lambda records, headers: "ok" if records and records[0]["model_name"] == "m" else later
    service.refuse = lambda record: record["model_name"] == "m"
    client = make_client(spool_dir=directory, flush_interval=60, batch_size=5)
    log(client, 5)
    log(client, 5, "other")
    assert client.close(30)
    assert client.stats().rejected == 5 and service.lost == 0
    service.mood = "ok"
    with predlog.Client(service.url, spool_dir=directory, flush_interval=0.05) as heir:
        log(heir, 1, "other")
        wait_until(lambda: service.models == {"other": 6} and service.lost_by("reason") == {"rejected": 5})


def test_flush_waits_for_the_files_of_this_process(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.moods.extend([503, 503])
    client = make_client(spool_dir=directory, flush_interval=60)
    log(client, 5)
    assert client.flush(30)
    assert len(service.records) == 5
    service.mood = 503
    log(client, 5)
    assert not client.flush(0.3)
    wait_until(lambda: client.stats().spooled == 5)


def test_a_spool_that_cannot_be_written_leaves_the_records_in_memory_and_they_are_sent(
    service: Service,
    make_client: Callable[..., Client],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = make_client(spool_dir=directory)

    def full(segment: Segment, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    append = Segment.append
    monkeypatch.setattr(Segment, "append", full)
    log(client, 100)
    wait_until(lambda: len(service.records) == 100)
    assert "No space left on device" in caplog.text and client.stats().dropped == {}
    service.mood = 503
    log(client, 100)
    requests = len(service.requests)
    wait_until(lambda: len(service.requests) > requests and client.stats().queued == 100)
    monkeypatch.setattr(Segment, "append", append)
    wait_until(lambda: client.stats().spooled == 100 == spooled_lines(directory))
    service.mood = "ok"
    wait_until(lambda: len(service.records) == 200)


def test_a_write_that_fails_half_way_leaves_no_half_line(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(parents=True)
    segment = Segment.create(str(directory / "predlog-a.spool"))
    segment.append(frame(b'{"a":1}'))
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]) if len(data) > 5 else write(-1, data))
    with pytest.raises(OSError):
        segment.append(frame(b'{"a":2}'))
    segment.release()
    assert (directory / "predlog-a.spool").read_bytes() == frame(b'{"a":1}')


@pytest.mark.parametrize("count", [-1, 0, 2**64])
def test_a_report_of_a_count_that_cannot_be_is_none(directory: Path, count: int) -> None:
    """It would end the sender's notes for the next process, and with them its turn, each time anew."""
    directory.mkdir(parents=True)
    report = {"id": "a", "model_name": "m", "reason": "rejected", "count": count, "timestamp": "2025-01-01T00:00:00"}
    (directory / "predlog-0.spool").write_bytes(frame(json.dumps([report]).encode()))
    segment = Segment.claim(str(directory / "predlog-0.spool"))
    assert segment is not None and (segment.reports, segment.torn) == ([], 1)
    segment.release()


@pytest.mark.parametrize("sent_here", [True, False])
def test_files_that_are_gone_take_no_memory_whoever_sent_them(
    directory: Path, monkeypatch: pytest.MonkeyPatch, sent_here: Any
) -> None:
    monkeypatch.setattr(spool, "MAX_OWN", 3)
    written = spool.Spool(Settings(spool_dir=str(directory)), "http://logs", Dropped(), Trouble())
    for _ in range(20):
        assert written.write(Batch([b"{}"])) and written.rotate()
        segment = written.claim()
        assert segment is not None
        if sent_here:
            written.remove(segment)
        else:
            segment.remove()
    assert len(written._own) <= (0 if sent_here else 4)


def test_a_removed_directory_is_made_again(
    service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    service.mood = 503
    client = make_client(spool_dir=directory)
    log(client, 1)
    wait_until(lambda: spooled_lines(directory) == 1 and has_written(client))  # or it would be written once more
    for path in files(directory):
        path.unlink()
    directory.rmdir()
    log(client, 5, "after")
    wait_until(lambda: spooled_lines(directory) == 5)
    service.mood = "ok"
    wait_until(lambda: service.models["after"] == 5)


def test_beside_a_file_above_the_cap_that_cannot_be_evicted_the_newest_records_are_kept(
    make_client: Callable[..., Client], directory: Path
) -> None:
    directory.mkdir(parents=True)
    sending = Segment.create(str(directory / "predlog-0.spool"))  # as a process does that sends it at the moment
    sending.append(b"x" * 100_000)
    with free_port() as port:
        client = make_client(f"http://127.0.0.1:{port}", spool_dir=directory, spool_max_bytes=64 * 1024)

        for number in range(20):
            log(client, 40, f"model {number}")
            wait_until(lambda: client.stats().queued == 0)
        wait_until(lambda: b'"model 19"' in contents(directory) and b'"model 0"' not in contents(directory))
        assert 0 < client.stats().dropped["spool_full"] < 800
    sending.remove()


@pytest.fixture
def other_service() -> Iterator[Service]:
    other = Service()
    yield other
    other.stop()


def test_services_that_share_a_directory_each_get_their_own_records(
    service: Service, other_service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    leave(service, directory, 5)
    client = make_client(other_service.url, spool_dir=directory, exit_timeout=30)
    log(client, 1, "other")
    assert client.flush(30) and client.close()
    assert other_service.models == {"other": 1} and spooled_lines(directory) == 5
    heir = make_client(f"{service.url}/", api_key="rotated", spool_dir=directory)
    heir.flush(0)
    wait_until(lambda: not files(directory))
    assert service.models == {"m": 5}


def test_a_file_that_names_no_service_is_sent_by_any_client(
    service: Service, other_service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    """As earlier versions left it."""
    leave(service, directory, 5)
    (path,) = files(directory)
    path.rename(directory / f"{path.name.partition('.')[0]}.spool")
    client = make_client(other_service.url, spool_dir=directory)
    client.flush(0)
    wait_until(lambda: not files(directory))
    assert other_service.models == {"m": 5}


def test_flush_returns_after_the_files_of_what_was_delivered_are_removed(
    make_client: Callable[..., Client], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def slow(path: str) -> None:
        time.sleep(0.3)
        unlink(path)

    monkeypatch.setattr(os, "unlink", slow)
    client = make_client(spool_dir=directory)
    log(client, 1)
    assert client.flush(30)
    assert not files(directory)


def test_files_that_no_client_sends_because_the_service_has_moved_are_warned_of(
    service: Service,
    other_service: Service,
    make_client: Callable[..., Client],
    directory: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    leave(service, directory, 5)
    client = make_client(other_service.url, spool_dir=directory)
    log(client, 1, "other")
    assert client.flush(30) and "another URL" not in caplog.text, "their client may be about to send them"
    (path,) = files(directory)
    an_hour_ago = time.time() - 3601
    os.utime(path, (an_hour_ago, an_hour_ago))
    log(client, 1, "other")
    assert client.flush(30)
    wait_until(lambda: f"another URL: {path.name}" in caplog.text)


def test_records_that_make_room_for_those_of_another_service_are_reported_to_their_own(
    service: Service, other_service: Service, make_client: Callable[..., Client], directory: Path
) -> None:
    cap = 64 * 1024
    leave(service, directory, 100)
    other_service.mood = 503
    client = make_client(other_service.url, spool_dir=directory, spool_max_bytes=cap, batch_size=50)
    for _ in range(10):
        log(client, 50, "other")
        wait_until(partial(has_written, client))
    assert len(contents(directory)) <= cap + 16 * 1024
    other_service.mood = "ok"
    wait_until(lambda: other_service.counted["other"] + other_service.lost_by("model_name")["other"] == 500)
    make_client(spool_dir=directory).flush(0)
    wait_until(lambda: not files(directory))
    assert not other_service.lost_by("model_name")["m"]
    assert service.lost_by("model_name", "reason") == {("m", "spool_full"): 100}


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_child_that_is_forked_while_a_file_is_opened_keeps_nobody_from_sending_it(
    program: Program, service: Service, directory: Path
) -> None:
    program.run(
        """
        import os, sys, predlog
        reading, writing = os.pipe()
        children = []
        def fork_once(path, *others, **named):
            fd = os_open(path, *others, **named)
            if str(path).endswith(".spool") and not children:
                pid = os.fork()
                if pid == 0:
                    os.close(writing)
                    os.read(reading, 1)  # it lives as long as its parent
                    os._exit(0)
                children.append(pid)
            return fd
        os_open, os.open = os.open, fork_once
        log = predlog.Client(spool_dir=sys.argv[1], flush_interval=0.05)
        log.log("m", duration_ms=1, was_successful=True)
        assert log.flush(30) and children
        """,
        str(directory),
    )
    assert service.models == {"m": 1}


@needs_fork
def test_a_forked_child_leaves_its_parents_files_locked(program: Program, directory: Path) -> None:
    program.run(
        """
        import os, sys, predlog
        from predlog.spool_file import Segment
        log = predlog.Client(spool_dir=sys.argv[1])
        segment = Segment.create(os.path.join(sys.argv[1], "predlog-1.spool"))
        pid = os.fork()
        if pid == 0:
            os._exit(0 if segment.fd == -1 and Segment.claim(segment.path) is None else 1)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        str(directory),
    )
