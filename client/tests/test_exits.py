"""Ends of programs: real processes, and every record counted afterwards."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from misbehaving import Service, wait_until


def test_a_program_that_just_ends_has_sent_everything(program: Program, service: Service) -> None:
    program.run("""
        import predlog
        log = predlog.Client(flush_interval=60, exit_timeout=30)
        for index in range(1234):
            log.log("m", duration_ms=index, was_successful=True)
    """)
    assert len(service.records) == 1234 and set(service.copies.values()) == {1}


def test_a_client_local_to_a_function_has_sent_everything_too(program: Program, service: Service) -> None:
    program.run("""
        import predlog
        def main():
            log = predlog.Client(flush_interval=60)
            for index in range(100):
                log.log("m", duration_ms=index, was_successful=True)
        main()
    """)
    assert len(service.records) == 100


@pytest.mark.parametrize("how", ["raise SystemExit(0)", "sys.exit(0)", "raise ValueError", "raise KeyboardInterrupt"])
def test_however_a_program_ends_its_records_are_sent(program: Program, service: Service, how: Any) -> None:
    code = {"raise ValueError": 1, "raise KeyboardInterrupt": -signal.SIGINT}.get(how, 0)
    program.run(
        f"""
        import sys, predlog
        log = predlog.Client(flush_interval=60)
        with log.track("m"):
            {how}
        """,
        code=code,
    )
    (record,) = service.records.values()
    assert record["was_successful"] is False


def test_predictions_logged_by_exit_handlers_are_sent(program: Program, service: Service) -> None:
    program.run("""
        import atexit, predlog
        log = predlog.Client(flush_interval=60)
        log.log("before", duration_ms=1, was_successful=True)
        atexit.register(lambda: log.log("at exit", duration_ms=1, was_successful=True))
    """)
    assert service.models == {"before": 1, "at exit": 1}


def test_the_first_call_of_all_may_come_at_exit_when_no_thread_can_start(program: Program, service: Service) -> None:
    program.run("""
        import atexit, predlog
        log = predlog.Client(flush_interval=60)
        atexit.register(lambda: [log.log("at exit", duration_ms=n, was_successful=True) for n in range(700)])
    """)
    assert service.models == {"at exit": 700}


@pytest.mark.parametrize("mood", ["hang", 503])
def test_exit_is_bounded_whatever_the_service_does(program: Program, service: Service, mood: str) -> None:
    service.mood = mood
    out = program.run("""
        import atexit, time, predlog
        log = predlog.Client(flush_interval=0.05, exit_timeout=0.5)
        log.log("m", duration_ms=1, was_successful=True)
        time.sleep(0.3)
        began = time.monotonic()
        predlog.lifecycle._close_all()
        print(time.monotonic() - began)
        while not (left := (stats := log.stats()).dropped.get("exit", stats.queued)):
            time.sleep(0.01)  # it is being counted just now
        print(left)
    """)
    seconds, left = out.split()
    assert float(seconds) < 20 and left == "1"  # without a bound it would wait for half a minute or for ever


def test_exit_with_the_service_away_leaves_the_records_in_the_spool(
    program: Program, service: Service, tmp_path: Path
) -> None:
    service.mood = 503
    program.run(
        """
        import sys, predlog
        predlog.delivery._jitter.uniform = lambda *_: 60.0  # longer than the end may take: it is not waited for
        log = predlog.Client(flush_interval=60, spool_dir=sys.argv[1])
        for index in range(100):
            log.log("m", duration_ms=index, was_successful=True)
        """,
        str(tmp_path / "spool"),
    )
    assert not service.records
    service.mood = "ok"
    program.run(
        """
        import sys, predlog
        with predlog.Client(spool_dir=sys.argv[1]) as log:
            log.log("next", duration_ms=1, was_successful=True)
        """,
        str(tmp_path / "spool"),
    )
    assert service.models == {"m": 100, "next": 1}


def test_what_could_not_be_delivered_at_exit_is_said(program: Program, service: Service) -> None:
    service.mood = (503, {"Retry-After": "600"})  # longer than the end may take: it is not waited for
    process = program.start(
        str(
            program.write(
                "losing.py",
                """
                import predlog
                log = predlog.Client(queue_size=10, flush_interval=60)
                for index in range(100):
                    log.log("m", duration_ms=index, was_successful=True)
                """,
            )
        )
    )
    _, errors = process.communicate(timeout=120)
    assert "closed with 9 records in memory not acknowledged" in errors
    assert "closed before 91 dropped records could be reported" in errors


ENDINGS = {
    "daemon threads that log": """
        import threading
        def work():
            while True:
                log.log("m", duration_ms=1, was_successful=True)
                time.sleep(0.0001)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
    """,
    "a client deleted at the end": """
        import atexit
        atexit.register(lambda: globals().pop("log"))
    """,
    "a generator that is left": """
        def steps():
            yield 1
        left = log.tracked("m")(steps)()
        next(left)
        early = log.tracked("m")(lambda: steps())()
    """,
    "an async stream that is left": """
        import asyncio
        async def steps():
            yield 1
        async def main():
            global left
            left = log.tracked("m")(lambda: steps())()
            await left.__anext__()
        asyncio.run(main())
    """,
    "an unfinished call": """
        call = log.start("m")
    """,
}


@pytest.mark.parametrize("options", ["", "mode='sync'"], ids=["thread", "sync"])
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_the_end_of_a_program_makes_no_noise(program: Program, service: Service, ending: Any, options: Any) -> None:
    body = textwrap.dedent(ENDINGS[ending])
    begin = f"import time, predlog\nlog = predlog.Client({options})\nlog.log('m', duration_ms=1, was_successful=True)\n"
    process = program.start("-X", "dev", str(program.write("ending.py", begin + body)))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == ""
    wait_until(lambda: len(service.records) >= 1)
