"""What processes lose that end without a chance to send: counted by the next one, model by model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import predlog
from conftest import Program
from misbehaving import Service, free_port, port_to_serve_at, wait_until
from predlog import Client
from predlog.ledger import CODES, Ledger, _read
from test_hosts import call

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

DYING = """
    import os, signal, sys, predlog
    log = predlog.Client(flush_interval=60)
    if len(sys.argv) > 2:
        log.log("sent", duration_ms=1, was_successful=True)
        assert log.flush(30)
    for index in range(300):
        log.log("a" if index % 3 else "модель b", duration_ms=index, was_successful=True)
    if sys.argv[1] == "exit":
        os._exit(0)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""


def next_process(service: Service, **options: Any) -> None:
    with predlog.Client(service.url, flush_interval=0.05, **options) as client:
        client.log("next", duration_ms=1, was_successful=True)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "exit"])
@pytest.mark.parametrize("earlier", [[], ["some"]], ids=["at once", "later"])
def test_the_next_process_reports_what_a_killed_one_had_in_memory(
    program: Program, service: Service, how: Any, earlier: Any
) -> None:
    service.mood = "ok" if earlier else 503  # else the first batch may go out, a tenth of a second after the start
    program.run(DYING, how, *earlier, code=0 if how == "exit" else -getattr(signal, how))
    service.settle()
    service.mood = "ok"
    next_process(service)
    assert service.models == {"next": 1, **({"sent": 1} if earlier else {})}
    assert service.lost_by("model_name", "reason") == {("a", "exit"): 200, ("модель b", "exit"): 100}


def test_it_is_reported_once(program: Program, service: Service) -> None:
    service.mood = 503
    program.run(DYING, "SIGKILL", code=-signal.SIGKILL)
    service.settle()
    service.mood = "ok"
    next_process(service)
    lost = service.lost
    next_process(service)
    assert service.lost == lost > 0


def test_processes_that_send_everything_leave_no_file(program: Program, service: Service, tmp_path: Path) -> None:
    program.run("""
        import predlog
        log = predlog.Client()
        log.log("m", duration_ms=1, was_successful=True)
    """)
    assert not list((tmp_path / "ledger").iterdir())


def test_what_could_not_be_sent_at_exit_is_reported_by_the_next_process(program: Program, service: Service) -> None:
    service.mood = (503, {"Retry-After": "600"})  # longer than the end may take: it is not waited for
    program.run("""
        import predlog
        log = predlog.Client(queue_size=100, flush_interval=60)
        for index in range(250):
            log.log("m", duration_ms=index, was_successful=index % 2 == 0)
    """)
    service.settle()
    service.mood = "ok"
    next_process(service)
    assert service.lost_by("model_name") == {"m": 250}


def test_a_process_that_never_logs_reports_for_its_children_when_it_ends(program: Program, service: Service) -> None:
    program.run("""
        import os, signal, predlog
        log = predlog.Client(flush_interval=60)
        pid = os.fork()
        if pid == 0:
            for index in range(10):
                log.log("child", duration_ms=index, was_successful=True)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    """)
    assert service.lost_by("model_name", "reason") == {("child", "exit"): 10}


@needs_fork
def test_workers_of_a_pool_that_is_terminated_are_lost_with_count(program: Program, service: Service) -> None:
    program.run("""
        import multiprocessing, predlog
        log = predlog.Client(flush_interval=60)
        def work(number):
            log.log("task", duration_ms=number, was_successful=True)
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(3) as pool:
                pool.map(work, range(300))
    """)
    # What was in a request just then is stored, and counted as well.
    assert service.lost <= 300 <= service.models["task"] + service.lost


def test_a_living_process_is_not_taken_for_a_dead_one(service: Service, make_client: Callable[..., Client]) -> None:
    service.mood = 503
    waiting = make_client()
    waiting.log("m", duration_ms=1, was_successful=True)
    service.mood = "ok"
    next_process(service)
    assert service.lost == 0 and waiting.flush(30)
    assert service.models == {"m": 1, "next": 1}


def test_the_file_of_another_service_or_key_is_left_alone(program: Program, service: Service, tmp_path: Path) -> None:
    program.run(DYING, "SIGKILL", code=-signal.SIGKILL)
    next_process(service, api_key="another")
    assert service.lost == 0 and len(list((tmp_path / "ledger").iterdir())) == 1


def test_with_a_spool_records_on_disk_are_not_counted_as_dropped(
    program: Program, service: Service, tmp_path: Path
) -> None:
    with free_port() as port:
        url = f"http://127.0.0.1:{port}"
        program.run(
            """
            import os, signal, sys, time, predlog
            log = predlog.Client(spool_dir=sys.argv[1], flush_interval=0.05)
            for index in range(100):
                log.log("kept", duration_ms=index, was_successful=True)
            marks = log._pipeline.intake.ledger.marks  # taken away a moment after the records are on disk
            while log.stats().spooled < 100 or any(marks[:]):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            str(tmp_path / "spool"),
            code=-signal.SIGKILL,
            environment={"PREDLOG_URL": url},
        )
    (found,) = Ledger(str(tmp_path / "ledger"), url, None, 500).orphans()
    assert not any(found[1].values())


def test_a_directory_that_cannot_be_used_or_nonsense_in_it_hurts_nobody(
    service: Service, tmp_path: Path, quick: None
) -> None:
    folder = tmp_path / "ledger"
    folder.write_text("a file")
    next_process(service)
    folder.unlink()
    folder.mkdir()
    name = Ledger(str(folder), service.url, None, 500)._service
    (folder / f"{name}-1.ledger").write_bytes(b"")
    (folder / f"{name}-2.ledger").write_bytes(b"predlog1" + bytes(5000) + b"[1]\n7\n\xff\n")
    (folder / f"{name}-3.ledger").symlink_to("/etc/passwd")
    next_process(service)
    next_process(service, ledger_dir="")
    assert service.models == {"next": 3} and service.lost == 0


def test_more_records_than_marks_and_more_models_than_codes_are_counted_too(tmp_path: Path) -> None:
    def ledger() -> Any:
        return Ledger(str(tmp_path), "url", None, 1)

    book = ledger()
    book.open()
    count = book.size + 1000
    for number in range(count):
        book.mark(number, f"model {number % 200}")
    book.done(range(500))
    book.owe({"model 0": 7}, time.time_ns())
    book.close()
    ((time_ns, lost),) = ledger().orphans()
    assert sum(lost.values()) == count - 500 + 7 and abs(time_ns - time.time_ns()) < 60e9
    expected = sum(number % 200 == 5 for number in range(500, count))
    assert lost["model 5"] == expected and len(lost) == CODES
    assert not list(tmp_path.iterdir())


def noted(directory: Path) -> int:
    """Records that the files say would be lost if their processes ended now."""
    lost = 0
    for path in directory.glob("*.ledger"):
        with path.open("rb") as file:
            found = _read(file.fileno())
        lost += sum(found[1].values()) if found is not None else 0
    return lost


def test_records_dropped_in_memory_by_a_killed_process_are_known_within_moments(
    program: Program, service: Service, tmp_path: Path
) -> None:
    service.mood = 503
    process = program.start(
        str(
            program.write(
                "full.py",
                """
                import time, predlog
                log = predlog.Client(queue_size=10, flush_interval=0.05)
                for index in range(100):
                    log.log("m", duration_ms=index, was_successful=True)
                time.sleep(600)
                """,
            )
        )
    )
    wait_until(lambda: noted(tmp_path / "ledger") == 100)
    process.kill()
    process.wait()
    service.settle()
    service.mood = "ok"
    next_process(service)
    wait_until(lambda: service.lost == 100)


def test_a_killed_process_leaves_no_count_of_what_was_answered_of_its_batch(
    program: Program, service: Service, tmp_path: Path
) -> None:
    service.mood = lambda records, headers: "ok" if len(records) == 5 and records[0]["duration_ms"] == 0 else 503
    service.refuse = lambda record: record["duration_ms"] == 2
    program.write(
        "half.py",
        """
        import predlog
        log = predlog.Client(flush_interval=60, batch_size=10)
        for index in range(10):
            log.log("m", duration_ms=index, was_successful=True)
        log.flush(600)
        """,
    )
    process = program.start("half.py")
    wait_until(lambda: len(service.records) == 4)
    requests = len(service.requests)
    wait_until(lambda: len(service.requests) > requests + 2)
    assert noted(tmp_path / "ledger") == 6  # five that wait, and the one that was rejected
    process.kill()
    process.wait()
    service.settle()
    service.mood = "ok"
    next_process(service)
    wait_until(lambda: service.lost)
    assert service.lost == 6 and service.models == {"m": 4, "next": 1}


SERVED = """
    import fastapi, predlog
    log = predlog.Client(flush_interval=60, exit_timeout=30)
    app = fastapi.FastAPI()
    @app.get("/")
    def predict():
        with log.track("model"):
            return 1
"""


@pytest.mark.parametrize("host", ["uvicorn", "gunicorn"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_servers_that_end_without_exit_handlers_send_or_count_everything(
    program: Program, service: Service, host: Any, how: Any
) -> None:
    uvicorn_worker = "uvicorn_worker.UvicornWorker" if find_spec("uvicorn_worker") else "uvicorn.workers.UvicornWorker"
    for module in ("fastapi", "uvicorn", host, uvicorn_worker.rpartition(".")[0]):
        pytest.importorskip(module)
    program.write("served.py", SERVED)
    port = port_to_serve_at()
    address = ("--port", str(port)) if host == "uvicorn" else ("--bind", f"127.0.0.1:{port}", "-k", uvicorn_worker)
    server = program.start("-m", host, "served:app", *address, "--log-level", "warning")
    answers = call(port, 100)
    if host == "gunicorn" and how == signal.SIGKILL:
        os.killpg(server.pid, how)
    else:
        server.send_signal(how)
    server.communicate(timeout=120)
    if service.models["model"] < 100:
        next_process(service)
    assert len(answers) == 100 <= service.models["model"] + service.lost


def test_after_a_full_queue_every_record_that_waits_has_a_mark_of_its_own(
    service: Service, make_client: Callable[..., Client]
) -> None:
    """Dropped records take no mark, so later numbers come round to those of records that still wait."""
    service.mood = 503
    client = make_client(queue_size=9000, flush_interval=60)
    assert client._pipeline is not None
    ledger = client._pipeline.intake.ledger
    for index in range(60_000):
        client.log("m", duration_ms=1, was_successful=index % 20 != 0)
    wait_until(lambda: service.requests)  # while a batch is encoded, its records are in none of the figures
    waiting = client.stats().queued
    counted = sum(map(bool, ledger.marks[:])) + len(ledger._crowded)
    assert counted >= waiting >= 8900
    service.mood = "ok"
    wait_until(lambda: client.flush() and client.stats().sent == waiting)
    assert not any(ledger.marks[:]) and not ledger._crowded


def test_copies_of_a_client_and_contexts_keep_books_too(service: Service, make_client: Callable[..., Client]) -> None:
    client = make_client(flush_interval=60)
    with client.context(user="u"):
        for _ in range(700):
            client.log("m", duration_ms=1, was_successful=True)
    assert client.flush() and len(service.records) == 700
    assert client._pipeline is not None
    assert not any(client._pipeline.intake.ledger.marks[:])
