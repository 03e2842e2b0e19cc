"""The `predlog` command: tail, stats, and send that goes on after its last line."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import PATIENT, Program
from misbehaving import Service, free_port, port_to_serve_at, wait_until
from predlog.cli import console, show
from predlog.cli.main import main
from predlog.cli.ndjson import Lines


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("PREDLOG_URL", service.url)

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        assert main([*arguments, *PATIENT]) == code
        said = capsys.readouterr()
        return said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "predictions.ndjson"


def write(file: Path, count: int, **fields: object) -> list[str]:
    lines = [json.dumps({"model_name": "m", "duration_ms": n, "was_successful": True, **fields}) for n in range(count)]
    file.write_text("\n".join(lines) + "\n")
    return lines


def prediction(identifier: int, seconds: int = 0, **fields: object) -> dict[str, object]:
    return {
        "id": identifier, "model_name": "m", "duration_ms": 12.5, "was_successful": True,
        "timestamp": f"2025-06-09T12:00:{seconds:02}.000000+00:00", **fields,
    }  # fmt: skip


def has_more_requests(service: Service, number: int) -> bool:
    return len(service.requests) > number


def test_send_stores_every_record_once_however_often_it_is_run(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 2500)
    assert "2,500 stored, 0 were there already, 0 rejected" in run("send", str(file))[0]
    first = dict(service.records)
    assert {timestamp for _, timestamp in first} and len(first) == 2500
    _, errors = run("send", str(file))
    assert "2,500 lines were sent before" in errors and set(service.copies.values()) == {1}
    assert "2,500 were there already" in run("send", str(file), "--restart")[0]
    assert service.records == first


def test_send_goes_on_after_being_stopped(service: Service, run: Callable[..., Any], file: Path) -> None:
    write(file, 5000)
    service.moods.extend(["ok", "ok", 401])
    _, errors = run("send", str(file), code=3)
    assert "2,000 lines are sent, run the same command again to go on" in errors and "API key" in errors
    out, errors = run("send", str(file))
    assert "2,000 lines were sent before" in errors and "5,000 stored" in out
    assert len(service.records) == 5000 and set(service.copies.values()) == {1}


def test_send_killed_at_any_moment_stores_each_record_once_in_the_end(
    program: Program, service: Service, file: Path
) -> None:
    write(file, 20_000)
    for number in range(5):
        sending = program.start("-m", "predlog", "send", str(file))
        wait_until(partial(has_more_requests, service, 2 * number))
        os.kill(sending.pid, signal.SIGKILL)
        sending.wait()
    sending = program.start("-m", "predlog", "send", str(file))
    assert sending.wait(120) == 0
    assert len(service.records) == 20_000
    assert sorted(record["duration_ms"] for record in service.records.values()) == list(range(20_000))


def test_a_lost_answer_makes_duplicates_and_no_second_record(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 100)
    service.moods.extend(["store_and_reset", "store_and_half"])
    assert "0 stored, 100 were there already" in run("send", str(file))[0]
    assert len(service.records) == 100


def test_lines_added_to_a_file_are_sent_and_the_rest_is_not_sent_again(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 10)
    run("send", str(file))
    with file.open("a") as more:
        more.write('{"model_name": "new", "duration_ms": 1, "was_successful": true}')  # and no line end
    run("send", str(file))
    with file.open("a") as more:
        more.write('\n{"model_name": "newer", "duration_ms": 1, "was_successful": true}\nrubbish\n')
    _, errors = run("send", str(file), code=1)
    assert service.models == {"m": 10, "new": 1, "newer": 1} and set(service.copies.values()) == {1}
    assert "line 13: not JSON" in errors


def test_a_file_that_has_changed_is_sent_from_its_first_line(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 10)
    run("send", str(file))
    write(file, 10, model_version="2")
    _, errors = run("send", str(file))
    assert "has changed" in errors and len(service.records) == 20


def test_a_file_is_sent_whole_to_each_service(service: Service, run: Callable[..., Any], file: Path) -> None:
    write(file, 10)
    run("send", str(file))
    other = Service()
    out, errors = run("send", str(file), "--url", other.url)
    assert f"was last sent to {service.url}" in errors and out.startswith("10 stored")
    assert "10 lines were sent before" in run("send", str(file), "--url", f"{other.url}/")[1]
    assert len(other.records) == 10 and service.records == other.records
    other.stop()


def test_a_state_that_names_no_service_is_of_the_one_that_is_sent_to(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 10)
    run("send", str(file))
    state = file.parent / f".{file.name}.predlog"
    kept = json.loads(state.read_text())
    assert kept.pop("service") == service.url
    state.write_text(json.dumps(kept))
    assert "10 lines were sent before" in run("send", str(file))[1]
    assert json.loads(state.read_text())["service"] == service.url


def test_lines_that_another_program_refuses_are_not_counted_as_rejected(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 3)
    service.mood = "wrong_door"
    out, errors = run("send", str(file), code=3)
    assert out == "" and "answered 400 to line 1, and not as Predlog does: check the URL; 0 lines are sent" in errors
    service.mood = "ok"
    assert run("send", str(file))[0] == "3 stored, 0 were there already, 0 rejected\n"


def test_a_line_that_the_service_refuses_by_itself_is_rejected(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 1)
    service.mood = 413
    assert "line 1: the service answered 413" in run("send", str(file), code=1)[1]


def test_a_record_without_a_time_gets_that_of_the_file_in_every_run(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    write(file, 3)
    os.utime(file, (1_749_470_400, 1_749_470_400))
    service.moods.append(404)
    run("send", str(file), code=3)
    os.utime(file, (1_749_480_000, 1_749_480_000))
    run("send", str(file))
    assert {timestamp for _, timestamp in service.records} == {"2025-06-09T12:00:00.000000+00:00"}


def test_what_a_record_says_itself_is_sent_to_the_digit(service: Service, run: Callable[..., Any], file: Path) -> None:
    identifier = "6f1d3b1e-0d5c-4a43-9c1b-0c2f5d0f6a11"
    body = (
        '{"model_name":"m","duration_ms":1.10,"was_successful":true,'
        f'"timestamp":"2025-06-09T12:00:00+00:00","request_id":"{identifier}"}}'
    )
    file.write_text(f"\ufeff{body}\r\n\r\n")
    run("send", str(file))
    assert list(service.records) == [(identifier, "2025-06-09T12:00:00+00:00")]


def test_rejected_lines_are_named_by_their_number(service: Service, run: Callable[..., Any], file: Path) -> None:
    lines = write(file, 6)
    lines[1] = '{"model_name": "m", "duration_ms": -1, "was_successful": true}'
    lines[3] = "{broken"
    lines[4] = '{"model_name": "m", "duration_ms": NaN, "was_successful": true}'
    lines.append("[1, 2]")
    file.write_text("\n".join(lines))
    out, errors = run("send", str(file), code=1)
    assert "3 stored, 0 were there already, 4 rejected" in out
    assert "line 2: duration_ms: Must be greater than or equal to 0." in errors
    assert "line 4: not JSON" in errors
    assert "line 5: NaN is not JSON" in errors
    assert "line 7: not a JSON object" in errors


def test_too_large_a_batch_is_halved(service: Service, run: Callable[..., Any], file: Path) -> None:
    service.most_records = 100
    write(file, 1500)
    run("send", str(file))
    assert len(service.records) == 1500


def test_null_for_request_id_and_timestamp_counts_as_not_given(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    file.write_text(
        '{"model_name":"m","duration_ms":1,"was_successful":true,"request_id":null,"timestamp":null}\n'
        '{"model_name":"m","duration_ms":2,"was_successful":true,"request_id":null}\n'
    )
    assert "2 stored" in run("send", str(file))[0]
    assert "2 were there already" in run("send", str(file), "--restart")[0]
    assert len(service.records) == 2


def test_send_waits_for_a_service_that_comes_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    write(file, 10)
    port = port_to_serve_at()
    monkeypatch.setenv("PREDLOG_URL", f"http://127.0.0.1:{port}")
    codes: list[int] = []
    sending = threading.Thread(target=lambda: codes.append(main(["send", str(file)])))
    sending.start()
    wait_until(lambda: "trying again" in capsys.readouterr().err)
    service = Service(port)
    sending.join(60)
    assert codes == [0] and len(service.records) == 10
    service.stop()


def test_send_gives_up_after_its_retry_timeout(run: Callable[..., Any], file: Path) -> None:
    write(file, 10)
    with free_port() as port:
        url = f"http://127.0.0.1:{port}"
        _, errors = run("send", str(file), "--url", url, "--retry-timeout", "0.2", code=3)
    assert "refused" in errors and "0 lines are sent, run the same command again to go on" in errors


def test_send_reads_standard_input(service: Service, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b'{"model_name": "m", "duration_ms": 1, "was_successful": true}\n' * 3
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert "3 stored" in run("send", "-")[0]
    assert len(service.records) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_sent_from_its_first_line_each_time(service: Service, run: Callable[..., Any], file: Path) -> None:
    os.mkfifo(file)
    for name in ("first", "second"):
        lines = json.dumps({"model_name": name, "duration_ms": 1, "was_successful": True})
        threading.Thread(target=file.write_text, args=[lines], daemon=True).start()
        assert run("send", str(file)) == ("1 stored, 0 were there already, 0 rejected\n", "")
    assert service.models == {"first": 1, "second": 1} and list(file.parent.glob(".*.predlog")) == []


def test_if_nothing_can_be_written_beside_the_file_the_state_goes_to_the_users(
    service: Service, run: Callable[..., Any], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(file.parent / "state"))
    write(file, 5)
    (file.parent / f".{file.name}.predlog").mkdir()
    run("send", str(file))
    assert "5 lines were sent before" in run("send", str(file))[1]


def test_the_progress_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = console.Progress(1000)
    progress.show(500, 5, 5, last=True)
    progress.say("line 3: wrong")
    shown = capsys.readouterr().err
    assert "[###############...............]  50%  5 lines" in shown and "line 3: wrong" in shown


@pytest.mark.parametrize("command", ["send", "import"])
@pytest.mark.parametrize("name", ["/no/such/file", "/", f"{__file__}/x", "n" * 300], ids=len)
def test_a_file_that_cannot_be_read_is_said_so(run: Callable[..., Any], command: str, name: str) -> None:
    assert run(command, name, code=2)[1].startswith(f"predlog: {name}: ")


def test_tail_prints_the_last_predictions_oldest_first(service: Service, run: Callable[..., Any]) -> None:
    service.predictions = [
        prediction(1, 1),
        prediction(2, 2, was_successful=False, error="ValueError: \x1b[31mred", model_version="3"),
        prediction(3, 3, model_name="other"),
    ]
    out, _ = run("tail", "--once")
    first, second, third = out.splitlines()
    assert first == "2025-06-09 12:00:01.000Z  ok            12.500 ms  m"
    assert second == "2025-06-09 12:00:02.000Z  FAILED        12.500 ms  m 3  ValueError: \ufffd[31mred"
    assert third.endswith("other")
    assert run("tail", "--once", "--failed")[0].splitlines() == [second]
    assert run("tail", "--once", "--model", "other")[0].splitlines() == [third]
    assert run("tail", "--once", "-n", "1")[0].splitlines() == [third]
    assert json.loads(run("tail", "--once", "--json", "-n", "1")[0]) == service.predictions[2]


def test_tail_prints_what_comes_each_once_and_waits_for_a_service_that_is_away(
    program: Program, service: Service
) -> None:
    service.predictions = [prediction(1, 1)]
    tail = program.start("-m", "predlog", "tail", "--interval", "0.05", "--json")
    assert tail.stdout is not None and tail.stderr is not None
    assert json.loads(tail.stdout.readline())["id"] == 1
    service.mood = 503
    assert "trying again" in tail.stderr.readline()
    service.predictions += [prediction(2, 1), prediction(3, 2)]
    service.mood = "ok"
    assert [json.loads(tail.stdout.readline())["id"] for _ in range(2)] == [2, 3]
    service.predictions += [prediction(4, 2)]
    assert json.loads(tail.stdout.readline())["id"] == 4
    tail.send_signal(signal.SIGINT)
    rest, _ = tail.communicate(timeout=120)
    assert rest == "" and tail.returncode == 130


def test_tail_prints_as_many_as_asked_for_however_few_a_page_holds(service: Service, run: Callable[..., Any]) -> None:
    service.predictions = [prediction(number, number) for number in range(10)]
    service.most_on_a_page = 3
    for asked, number in [(7, 7), (9, 9), (1000, 10)]:
        out, _ = run("tail", "--once", "--json", "--model", "m", "-n", str(asked))
        assert [json.loads(line)["id"] for line in out.splitlines()] == list(range(10))[-number:]
    assert [query["limit"] for _, query in service.queries] == [["7"]] * 3 + [["9"]] * 3 + [["1000"]] * 4


def test_tail_skips_nothing_that_comes_between_two_looks(program: Program, service: Service) -> None:
    service.predictions = [prediction(0)]
    service.most_on_a_page = 3
    tail = program.start("-m", "predlog", "tail", "--interval", "0.05", "--json")
    assert tail.stdout is not None
    assert json.loads(tail.stdout.readline())["id"] == 0
    service.predictions = [prediction(number, number) for number in range(11)]
    assert [json.loads(tail.stdout.readline())["id"] for _ in range(10)] == list(range(1, 11))
    tail.send_signal(signal.SIGINT)
    assert tail.communicate(timeout=120) == ("", "") and tail.returncode == 130


@pytest.fixture
def tail(service: Service, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Tail while more predictions are logged before each look; return the ids that were printed."""

    def tail(*batches: list[dict[str, object]], lines: int = 1) -> list[int]:
        following = iter(batches[1:])

        def sleep(seconds: float) -> None:
            batch = next(following, None)
            if batch is None:
                raise KeyboardInterrupt
            service.predictions += batch

        service.predictions = list(batches[0])
        monkeypatch.setattr(show, "time", SimpleNamespace(sleep=sleep))
        out, errors = run("tail", "--json", "-n", str(lines), code=130)
        assert errors == ""
        return [json.loads(line)["id"] for line in out.splitlines()]

    return tail


def begun(identifier: int, minutes: float) -> dict[str, object]:
    """A prediction that began so many minutes from now."""
    moment = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    return prediction(identifier, timestamp=moment.isoformat(timespec="microseconds"))


def test_tail_prints_what_comes_from_other_hosts_if_one_has_a_fast_clock(tail: Callable[..., list[int]]) -> None:
    assert tail([begun(1, 4.9)], [begun(2, 0)], [begun(3, 4.95), begun(4, -9)], [begun(5, 0)]) == [1, 2, 4, 3, 5]


def test_tail_prints_a_long_call_that_comes_after_later_ones(tail: Callable[..., list[int]]) -> None:
    assert tail([begun(1, -5), begun(2, 0)], [begun(3, -8), begun(4, 0)]) == [2, 3, 4]


def test_tail_leaves_out_what_began_longer_ago_than_it_looks_back(tail: Callable[..., list[int]]) -> None:
    assert tail([begun(1, 0)], [begun(2, -11), begun(3, 0)]) == [1, 3]


def test_tail_begins_with_as_many_as_asked_for_and_goes_on_with_new_ones(tail: Callable[..., list[int]]) -> None:
    before = [begun(number, number / 10 - 2) for number in range(10)]
    assert tail(before, [], [begun(10, 0)], lines=3) == [7, 8, 9, 10]
    assert tail([begun(1, -90), begun(2, -60)], [], [begun(3, 0)], lines=5) == [1, 2, 3]
    assert tail([begun(1, -61), begun(2, -60)], [], [begun(3, -55)]) == [2, 3]
    assert tail([], [], [begun(1, 0)]) == [1]


def test_tail_prints_nothing_twice_however_much_comes_while_it_is_among_the_newest(
    tail: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "MAX_PAGE", 3)
    monkeypatch.setattr(show, "MAX_REMEMBERED", 6)
    batches = [[begun(2 * number, 0), begun(2 * number + 1, 0)] for number in range(1, 10)]
    assert tail([begun(1, 4)], *batches) == list(range(1, 20))


def test_stats_prints_a_table_of_whatever_the_service_says(service: Service, run: Callable[..., Any]) -> None:
    out, _ = run("stats", "--model", "a", "--model", "b", "--from", "2025-06-09", "--to", "2025-06-10")
    assert service.queries == [
        ("/api/v1/stats", {"model_name": ["a", "b"], "from": ["2025-06-09"], "to": ["2025-06-10"]})
    ]
    rows = [line.split() for line in out.splitlines()]
    assert rows == [["total_requests", "1,234"], ["success_rate", "0.99998"], ["percentiles.50", "1.5"], ["min", "-"]]
    assert json.loads(run("stats", "--json")[0])["total_requests"] == 1234


def test_stats_asks_for_the_share_under_a_duration(service: Service, run: Callable[..., Any]) -> None:
    run("stats", "--under", "200,500")
    assert service.queries == [("/api/v1/stats", {"under_ms": ["200,500"]})]


def test_histogram_draws_a_bar_for_each_bin(service: Service, run: Callable[..., Any]) -> None:
    service.histogram = {
        "bins": [
            {"from_ms": 0, "to_ms": 0, "count": 1},
            {"from_ms": 12.182493960703473, "to_ms": 12.6, "count": 1500},
            {"from_ms": 12.6, "to_ms": 13, "count": 0},
        ],
        "total_requests": 1501,
        "completeness": 0.5,
    }
    out, _ = run("histogram", "--model", "a", "--bins", "7")
    assert service.queries == [("/api/v1/stats/histogram", {"model_name": ["a"], "bins": ["7"]})]
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["0", "to", "0", "ms", "1", "#"]
    assert rows[1] == ["12.1825", "to", "12.6", "ms", "1,500", "#" * 30]
    assert rows[2] == ["12.6", "to", "13", "ms", "0"]
    assert rows[3] == ["1,501", "predictions;", "completeness", "0.5"]
    assert json.loads(run("histogram", "--json")[0]) == service.histogram


@pytest.mark.parametrize(
    ("mood", "code", "word"),
    [(401, 3, "API key"), (404, 3, "check the host"), (422, 2, "from: Not a valid datetime"), (503, 3, "503")],
)
def test_what_the_service_refuses_is_explained(
    service: Service, run: Callable[..., Any], mood: str, code: Any, word: Any
) -> None:
    service.mood = mood
    assert word in run("stats", code=code)[1]


def test_a_service_that_is_away_is_said_so(run: Callable[..., Any]) -> None:
    with free_port() as port:
        for command in ("stats", "tail"):
            _, errors = run(command, "--url", f"http://127.0.0.1:{port}", code=3)
            assert errors.startswith("predlog: the service cannot be reached: ConnectionRefusedError")


def test_a_page_of_another_program_is_told_from_an_answer(service: Service, run: Callable[..., Any]) -> None:
    service.mood = "page"
    _, errors = run("stats", code=3)
    assert errors.startswith("predlog: the service answered 200, but not as Predlog does: no Predlog service")


def test_without_a_url_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats"]) == 2
    assert "PREDLOG_URL" in capsys.readouterr().err
    assert main(["stats", "--url", "ftp://logs"]) == 2


@pytest.mark.parametrize("arguments", [[], ["tail", "-n", "0"], ["tail", "--interval", "-1"], ["nonsense"]])
def test_wrong_usage_ends_with_2(arguments: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_a_reader_that_has_had_enough_ends_the_command_quietly(program: Program, service: Service) -> None:
    service.predictions = [prediction(number, error="e" * 4000) for number in range(500)]
    tail = program.start("-m", "predlog", "tail", "--once", "-n", "500")
    assert tail.stdout is not None and tail.stderr is not None
    tail.stdout.readline()
    tail.stdout.close()
    assert tail.wait(120) == 0 and tail.stderr.read() == ""
    tail.stdout = None


@pytest.mark.skipif(sys.platform == "win32", reason="its pipes break in another way")
def test_a_reader_that_reads_nothing_changes_no_exit_code(program: Program, file: Path) -> None:
    file.write_text("rubbish\n")
    for arguments, code in [(["stats"], 0), (["send", str(file)], 1)]:
        reading, writing = os.pipe()
        os.close(reading)
        process = program.start("-m", "predlog", *arguments, stdout=writing, environment={"PYTHONUNBUFFERED": ""})
        os.close(writing)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == code and "BrokenPipe" not in errors, errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_an_output_that_cannot_be_written_is_said_so(program: Program) -> None:
    with open("/dev/full", "w") as full:
        process = program.start("-m", "predlog", "stats", stdout=full)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and errors == "predlog: reading or writing failed: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a process begins with closed streams on Unix alone")
@pytest.mark.parametrize(("arguments", "stream"), [(["send", "-"], 0), (["tail", "--once"], 1), (["send", "-"], 2)])
def test_a_closed_standard_stream_is_an_empty_one(program: Program, arguments: list[str], stream: int) -> None:
    closed = {("stdin", "stdout", "stderr")[stream]: None}
    open_ones = {} if stream == 0 else {"stdin": subprocess.DEVNULL}
    close = partial(os.close, stream)
    process = program.start("-m", "predlog", *arguments, preexec_fn=close, **open_ones, **closed)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and not errors, errors


@pytest.mark.skipif(sys.platform != "linux", reason="sets the locale of Linux")
def test_a_locale_that_has_no_letters_for_a_name_neither_hides_it_nor_ends_the_command(
    program: Program, service: Service
) -> None:
    service.predictions = [prediction(1, model_name="цена")]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    process = program.start("-m", "predlog", "tail", "--once", "--model", "цена", environment=plain)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "\\u0446\\u0435\\u043d\\u0430" in out, errors
    assert service.queries[0][1]["model_name"] == ["цена"]


def test_a_file_that_is_still_being_written_has_no_line_sent_by_half_or_twice(
    service: Service, run: Callable[..., Any], file: Path
) -> None:
    lines = write(file, 20)
    whole = file.read_bytes()
    for end in range(0, len(whole) + 1, 37):
        file.write_bytes(whole[:end])
        _, errors = run("send", str(file))
        unfinished = whole[:end].rpartition(b"\n")[2]
        assert ("is not whole yet" in errors) == (unfinished not in (b"", lines[0].encode(), *map(str.encode, lines)))
        assert len(service.records) == sum(whole[:end].count(line.encode()) for line in lines)
    file.write_bytes(whole)
    run("send", str(file))
    assert sorted(record["duration_ms"] for record in service.records.values()) == list(range(20))
    assert set(service.copies.values()) == {1}


def test_a_line_that_grows_while_it_is_read_is_not_sent_by_half(file: Path) -> None:
    class Growing(io.BytesIO):
        """Hands out what was written so far, and then more."""

        def readline(self, size: Any = -1) -> Any:
            return parts.pop(0) if parts else b""

        def __next__(self) -> Any:
            if not parts:
                raise StopIteration
            return parts.pop(0)

    parts = [b'{"model_name": "a"}', b"\n", b'{"model_', b'name": "b"}\n']
    lines = Lines(Growing(), "2025-06-09T12:00:00Z", growing=True)
    assert [line.number for line in lines] == [1] and lines.unfinished and lines.line == 1


def test_half_a_line_of_a_stream_that_has_ended_is_rejected(
    service: Service, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"model_name": "m", ')))
    assert "line 1: not JSON" in run("send", "-", code=1)[1]
