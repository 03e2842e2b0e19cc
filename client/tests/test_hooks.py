"""The options of a host for its records: before_send, failures and ignored ones, defaults, context, traces."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import predlog
from conftest import Program
from misbehaving import Service, wait_until
from predlog import Client
from predlog.settings import Settings


def the_record(service: Service, client: Client) -> Any:
    assert client.flush()
    (record,) = service.records.values()
    return record


def test_before_send_sees_a_record_as_log_was_given_it_and_may_change_it(
    service: Service, make_client: Callable[..., Client]
) -> None:
    seen = []

    def redact(record: Any) -> Any:
        seen.append((dict(record), threading.current_thread()))
        record["metadata"].pop("secret")
        return {**record, "model_name": "renamed"}

    client = make_client(before_send=redact)
    metadata = {"secret": 1, "rooms": 3}
    client.log("m", duration_ms=1, was_successful=True, version=3, metadata=metadata)
    record = the_record(service, client)
    assert record["model_name"] == "renamed" and record["metadata"] == {"rooms": 3} and record["model_version"] == "3"
    ((given, thread),) = seen
    assert given["version"] == 3 and given["duration_ms"] == 1 and given["error"] is None
    assert (given["timestamp"], given["request_id"]) == (record["timestamp"], record["request_id"])
    assert thread is not threading.current_thread() and metadata == {"secret": 1, "rooms": 3}


def test_what_before_send_withholds_is_neither_sent_nor_reported_as_lost(
    service: Service, make_client: Callable[..., Client]
) -> None:
    client = make_client(before_send=lambda record: None if record["model_name"] == "private" else record)
    for name in ("private", "m", "private"):
        client.log(name, duration_ms=1, was_successful=True)
    the_record(service, client)
    assert client.stats().withheld == 2 and not client.stats().dropped and not service.lost
    assert client._pipeline is not None
    assert client._pipeline.intake.ledger.marks[:].strip(b"\0") == b""


@pytest.mark.parametrize("hook", [lambda record: 1 / 0, lambda record: {**record, "other": 1}, lambda record: 7])
def test_a_record_for_which_before_send_fails_is_not_sent(
    service: Service, make_client: Callable[..., Client], caplog: pytest.LogCaptureFixture, hook: Any
) -> None:
    client = make_client(before_send=hook)
    client.log("m", duration_ms=1, was_successful=True, metadata={"pin": "secret"})
    wait_until(lambda: service.lost == 1)
    assert not service.records and service.lost_by("reason") == {"rejected": 1}
    assert "before_send" in caplog.text and "secret" not in caplog.text


def test_the_text_of_exceptions_may_be_turned_off(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(exception_text=False)
    with pytest.raises(KeyError), client.track("m"):
        raise KeyError("secret")
    client.log("m", duration_ms=1, was_successful=False, error=ValueError("secret"))
    client.log("m", duration_ms=1, was_successful=False, error="own words")
    assert client.flush()
    assert sorted(record["error"] for record in service.records.values()) == ["KeyError", "ValueError", "own words"]


class Refused(Exception):
    """As a web framework has one."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def refuse(client: Client, status: int, call: Any = None) -> None:
    with pytest.raises(Refused), call or client.track("m"):
        raise Refused(status)


def test_the_host_says_which_exceptions_are_failures(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(is_failure=lambda error: error.status >= 500)
    for status in (404, 500):
        refuse(client, status)
    with pytest.raises(ZeroDivisionError), client.track("m"):  # the host's function raises for this one
        raise ZeroDivisionError
    assert client.flush()
    errors = [record.get("error") for record in service.records.values()]
    assert sorted(map(str, errors)) == ["None", "Refused: 500", "ZeroDivisionError"]


@pytest.mark.parametrize("ignore", [Refused, (LookupError, Refused), [Refused]], ids=str)
def test_a_call_that_ends_with_an_ignored_exception_leaves_no_record(
    service: Service, make_client: Callable[..., Client], ignore: Any
) -> None:
    client = make_client(ignore=ignore)
    outer = client.track("m", metadata={"a": 1})
    with outer:
        refuse(client, 404, outer)
        refuse(client, 404)
    assert the_record(service, client)["was_successful"]


def test_defaults_are_in_every_record_unless_it_says_otherwise(
    service: Service, make_client: Callable[..., Client]
) -> None:
    client = make_client(
        version="7", metadata={"team": "prices", "b": 1}, environment="production", release="2025.1", host=True
    )
    client.log("defaults", duration_ms=1, was_successful=True)
    client.log("own", duration_ms=1, was_successful=True, version="8", metadata={"b": 2, "release": "x"})
    assert client.flush()
    records = {record["model_name"]: record for record in service.records.values()}
    tags = {"environment": "production", "release": "2025.1", "host": socket.gethostname(), "team": "prices"}
    assert records["defaults"]["metadata"] == {**tags, "b": 1} and records["defaults"]["model_version"] == "7"
    assert records["own"]["metadata"] == {**tags, "b": 2, "release": "x"} and records["own"]["model_version"] == "8"


def test_fields_of_a_context_are_logged_inside_it_also_in_tasks(
    service: Service, make_client: Callable[..., Client]
) -> None:
    client = make_client()
    client.log("before", duration_ms=1, was_successful=True)

    async def task() -> None:
        with client.track("task") as call:
            call.metadata["own"] = 1

    async def main() -> None:
        await asyncio.gather(task())

    with client.context(user="u1", own=0):
        with client.context(step=2):
            asyncio.run(main())
        client.log("inside", duration_ms=1, was_successful=True)
        contextvars.Context().run(lambda: client.log("elsewhere", duration_ms=1, was_successful=True))
    client.log("after", duration_ms=1, was_successful=True)
    assert client.flush()
    found = {record["model_name"]: record.get("metadata") for record in service.records.values()}
    assert found == {
        "before": None, "after": None, "elsewhere": None,
        "task": {"user": "u1", "own": 1, "step": 2}, "inside": {"user": "u1", "own": 0},
    }  # fmt: skip


def test_a_context_may_end_in_another_context_than_it_began_in(
    service: Service, make_client: Callable[..., Client]
) -> None:
    """So it does if it is in a dependency of FastAPI that is a generator, and no coroutine."""
    client = make_client()
    block = client.context(user="u1")
    contextvars.copy_context().run(block.__enter__)

    def end() -> None:
        block.__exit__(None, None, None)
        client.log("after", duration_ms=1, was_successful=True)

    contextvars.copy_context().run(end)
    assert "metadata" not in the_record(service, client)


def test_a_context_that_ends_in_another_thread_leaves_the_fields_of_that_thread(
    service: Service, make_client: Callable[..., Client]
) -> None:
    """So it does if the generator that holds it is consumed, or collected, by another thread."""
    client = make_client()
    block = client.context(step="read")

    def begin() -> None:
        with client.context(customer="A"):
            block.__enter__()

    contextvars.Context().run(begin)
    with client.context(customer="B"):
        block.__exit__(None, None, None)
        client.log("b", duration_ms=1, was_successful=True)
    assert the_record(service, client)["metadata"] == {"customer": "B"}


def test_the_current_trace_is_logged_if_there_is_one(service: Service, make_client: Callable[..., Client]) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    client = make_client()
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0x12, is_remote=False))
    with trace.use_span(span), client.track("traced"):
        pass
    client.log("alone", duration_ms=1, was_successful=True)
    untraced = make_client(trace_ids=False)
    with trace.use_span(span), untraced.track("untraced"):
        pass
    assert client.flush() and untraced.flush()
    found = {record["model_name"]: record.get("metadata") for record in service.records.values()}
    assert found == {
        "traced": {"trace_id": f"{0xABC:032x}", "span_id": f"{0x12:016x}"},
        "alone": None,
        "untraced": None,
    }


def test_a_program_without_opentelemetry_logs_as_ever(program: Program, service: Service) -> None:
    program.run("""
        import sys, predlog
        log = predlog.Client(trace_ids=True)
        sys.modules["opentelemetry"] = None
        log.log("m", duration_ms=1, was_successful=True)
    """)
    assert len(service.records) == 1


def test_a_call_may_be_started_marked_and_finished_without_a_block(service: Service, client: Client) -> None:
    call = client.start("m", version="3")
    first = call.mark("first_token")
    call.finish()
    call.finish()
    failed = client.start("failed")
    failed.finish(error=ValueError("no"))
    client.start("told").finish("no answer")
    assert client.flush()
    records = {record["model_name"]: record for record in service.records.values()}
    assert len(records) == 3 == len(service.records)
    assert records["m"]["metadata"] == {"first_token_ms": round(first, 3)}
    assert 0 <= first <= records["m"]["duration_ms"]
    assert (records["failed"]["error"], records["told"]["error"]) == ("ValueError: no", "no answer")


def test_a_mark_on_a_call_that_is_finished_is_kept_nowhere(service: Service, client: Client) -> None:
    call = client.start("m")
    call.finish()
    assert call.mark("late") == 0
    with call:
        pass
    assert client.flush()
    assert [record.get("metadata") for record in service.records.values()] == [None, None]


def test_aflush_and_aclose_let_the_event_loop_go_on(service: Service, make_client: Callable[..., Client]) -> None:
    went_on = threading.Event()
    service.mood = lambda records, headers: "ok" if went_on.wait(30) else 503

    async def go_on() -> None:
        await asyncio.sleep(0.001)
        went_on.set()

    async def main() -> None:
        client = make_client(flush_interval=60)
        for finish in (client.aflush, client.aclose):
            went_on.clear()
            client.log("m", duration_ms=1, was_successful=True)
            finished, _ = await asyncio.gather(finish(), go_on())
            assert finished
        async with client:
            pass

    asyncio.run(main())
    assert len(service.records) == 2


@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_warnings_are_told_to_on_error_and_what_it_raises_hurts_nobody(
    service: Service, make_client: Callable[..., Client], caplog: pytest.LogCaptureFixture, raised: Any
) -> None:
    told = []

    def on_error(text: str) -> None:
        told.append(text)
        raise raised

    client = make_client(on_error=on_error)
    client.log("m", duration_ms=cast(Any, "fast"), was_successful=True)
    wait_until(lambda: service.lost == 1)
    assert len(told) == 1 and "duration_ms" in told[0] and f"on_error raised {raised.__name__}" in caplog.text


class Raising(logging.Handler):
    """A host's handler that needs what the client's lines lack."""

    def emit(self, record: logging.LogRecord) -> None:
        raise KeyError("request_id")


@pytest.fixture
def raising_handler(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "predlog")
    monkeypatch.setattr(logging.getLogger("predlog"), "handlers", [Raising()])


@pytest.mark.usefixtures("raising_handler")
@pytest.mark.parametrize("mode", ["thread", "sync"])
def test_a_handler_of_the_hosts_logging_that_raises_loses_no_record(
    service: Service, make_client: Callable[..., Client], mode: str
) -> None:
    service.moods.append(503)
    client = make_client(mode=mode)
    for duration_ms in (1, -1, 2):
        client.log("m", duration_ms=duration_ms, was_successful=True)
    assert client.flush() and service.models == {"m": 2}
    wait_until(lambda: service.lost == 1)
    assert client.stats().sent == 2 and client.stats().dropped == {"rejected": 1}


@pytest.mark.usefixtures("raising_handler")
def test_a_thread_that_fails_goes_on_if_its_warning_raises_too(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predlog.threads.START_AGAIN", 0.01)
    assert client._pipeline is not None
    keep, failing = client._pipeline._sender._keep_books, [OSError(), OSError()]

    def keep_books() -> None:
        if failing:
            raise failing.pop()
        keep()

    monkeypatch.setattr(client._pipeline._sender, "_keep_books", keep_books)
    client.log("m", duration_ms=1, was_successful=True)
    assert client.flush() and service.models == {"m": 1} and not failing


def test_an_interrupt_while_records_are_encoded_loses_none(
    service: Service, make_client: Callable[..., Client]
) -> None:
    interrupts = [KeyboardInterrupt()]

    def before_send(record: Any) -> Any:
        if record["model_name"] == "interrupted" and interrupts:
            raise interrupts.pop()
        return record

    client = make_client(mode="sync", before_send=before_send)
    service.moods.append(503)
    client.log("first", duration_ms=1, was_successful=True)
    with pytest.raises(KeyboardInterrupt):
        client.log("interrupted", duration_ms=1, was_successful=True)
    client.log("last", duration_ms=1, was_successful=True)
    assert service.models == {"first": 1, "interrupted": 1, "last": 1} and set(service.copies.values()) == {1}


def test_debug_says_what_the_client_does_and_never_a_payload_or_a_key(program: Program, service: Service) -> None:
    process = program.start(
        str(
            program.write(
                "debugged.py",
                """
                import predlog
                with predlog.Client(api_key="secret") as log:
                    log.log("m", duration_ms=1, was_successful=False, error="secret", metadata={"secret": "secret"})
                """,
            )
        ),
        environment={"PREDLOG_DEBUG": "1"},
    )
    _, errors = process.communicate(timeout=120)
    assert "DEBUG" in errors and "1 records in" in errors and "1 stored" in errors and "secret" not in errors


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("QUEUE_SIZE", "77", 77),
        ("FLUSH_INTERVAL", "0.25", 0.25),
        ("SPOOL_DIR", "none", os.path.abspath("none")),
        ("MODE", "sync", "sync"),
        ("ENVIRONMENT", "staging", "staging"),
        ("HOST", "true", True),
        ("EXCEPTION_TEXT", "0", False),
        ("METADATA", '{"team": "a"}', {"team": "a"}),
        ("HEADERS", '{"X-A": "b"}', {"X-A": "b"}),
        ("PROXY", "http://proxy:3128", "http://proxy:3128"),
    ],
)
def test_options_come_from_the_environment_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: Any, read: Any
) -> None:
    monkeypatch.setenv(f"PREDLOG_{variable}", value)
    client = predlog.Client("http://logs", enabled=False)
    assert getattr(client._settings, variable.lower()) == read
    if variable == "QUEUE_SIZE":
        assert predlog.Client("http://logs", enabled=False, queue_size=5)._settings.queue_size == 5


@pytest.mark.parametrize("variable", ["QUEUE_SIZE", "TIMEOUT", "HOST", "METADATA"])
def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(f"PREDLOG_{variable}", "[nonsense")
    with pytest.raises(ValueError, match=f"PREDLOG_{variable}") as raised:
        predlog.Client("http://logs")
    assert "nonsense" not in str(raised.value)


def test_every_option_but_functions_and_exceptions_can_be_set_in_the_environment() -> None:
    from dataclasses import fields

    from predlog.settings import _KINDS

    assert {field.name for field in fields(Settings)} - set(_KINDS) == {
        "before_send", "ignore", "is_failure", "on_error",
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "async"}, {"mode": "sync", "spool_dir": "/tmp/x"}, {"metadata": 3}, {"before_send": 3},
        {"ignore": "ValueError"}, {"ignore": (ValueError, 3)}, {"proxy": "socks://secret"}, {"headers": {"a b": "c"}},
        {"headers": {"a": "secret\n"}}, {"proxy": "http://p", "unix_socket": "/x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_option_is_refused_when_the_client_is_made(wrong: Any) -> None:
    with pytest.raises(ValueError) as raised:
        predlog.Client("http://logs", **wrong)
    assert "secret" not in str(raised.value) and next(iter(wrong)) in str(raised.value)


@pytest.mark.parametrize("name", ["spool_dir", "ledger_dir", "ca_file", "client_certificate", "client_key"])
def test_a_relative_path_means_the_same_file_if_the_program_changes_its_directory(name: str) -> None:
    assert getattr(Settings.made_of({name: Path("a")}), name) == os.path.abspath("a")


def test_an_empty_ledger_dir_stays_none() -> None:
    assert Settings.made_of({"ledger_dir": ""}).ledger_dir == ""


def test_a_certificate_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        predlog.Client("https://logs", ca_file=tmp_path / "none.pem")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[Any]:
    before = logging.getLogger("predlog").level
    yield
    logging.getLogger("predlog").setLevel(before)
