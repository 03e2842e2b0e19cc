"""Forks, multiprocessing and gunicorn: real processes, and every record counted afterwards."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from misbehaving import Handler, Service, port_to_serve_at, wait_until

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_gunicorn = pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed")


# A child whose time ran out before the answer came would leave its file, and its parent would send that again.
FORKING = """
    import os, sys, time, predlog
    log = predlog.Client(flush_interval=0.05, exit_timeout=30, spool_dir=sys.argv[1] if len(sys.argv) > 1 else None)
    def work(name, count):
        for index in range(count):
            log.log(name, duration_ms=index, was_successful=True)
    work("parent", 300)
    children = []
    for number in range(4):
        work("parent", 25)
        pid = os.fork()
        if pid == 0:
            work(f"child {number}", 100)
            sys.exit(0)
        children.append(pid)
    work("parent", 300)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
"""


@needs_fork
@pytest.mark.parametrize("spooling", [False, True], ids=["memory", "spool"])
def test_a_forked_child_sends_its_own_records_and_not_its_parents(
    program: Program, service: Service, tmp_path: Path, spooling: Any
) -> None:
    program.run(FORKING, *([str(tmp_path / "spool")] if spooling else []))
    assert service.models == {"parent": 700, **{f"child {number}": 100 for number in range(4)}}
    assert set(service.copies.values()) == {1}


@needs_fork
def test_forking_in_the_middle_of_heavy_logging_neither_hangs_nor_loses(program: Program, service: Service) -> None:
    program.run("""
        import os, sys, threading, predlog
        log = predlog.Client(flush_interval=0.01, queue_size=100_000)
        def work(name):
            for index in range(3000):
                log.log(name, duration_ms=index, was_successful=True)
        threads = [threading.Thread(target=work, args=("parent",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        children = []
        for number in range(10):
            pid = os.fork()
            if pid == 0:
                for index in range(50):
                    log.log("child", duration_ms=index, was_successful=True)
                assert log.flush(30)
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        for thread in threads:
            thread.join()
        assert log.flush(30)
    """)
    assert service.models == {"parent": 9000, "child": 500}
    assert set(service.copies.values()) == {1}


@needs_fork
def test_a_certificate_that_is_gone_when_a_child_is_forked_holds_up_no_client(
    program: Program, service: Service
) -> None:
    program.run("""
        import os, predlog
        open("ca.pem", "w").close()
        logs = [predlog.Client(ca_file="ca.pem"), predlog.Client()]
        os.remove("ca.pem")
        pid = os.fork()
        for log in logs:
            log.log("child" if pid == 0 else "parent", duration_ms=1, was_successful=True)
            assert log.flush(30) and log.stats().sent == 1
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """)
    assert service.models == {"parent": 2, "child": 2}


@needs_fork
def test_a_client_that_cannot_start_in_a_child_holds_up_neither_the_others_nor_the_program(
    program: Program, service: Service
) -> None:
    program.run("""
        import os, predlog
        class Broken(predlog.Client):
            def _connect(self):
                if os.getpid() != parent:
                    raise OSError
                return super()._connect()
        parent = os.getpid()
        logs = [Broken(), predlog.Client(), Broken()]
        pid = os.fork()
        for log in logs:
            log.log("child" if pid == 0 else "parent", duration_ms=1, was_successful=True)
            log.stats()
        if pid == 0:
            assert logs[1].flush(30)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """)
    assert service.models == {"parent": 3, "child": 1}


@needs_fork
def test_a_child_that_is_forked_while_an_answer_is_half_read_goes_on(
    program: Program, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"

    def answer_in_halves(handler: Handler, status: int, said: Any, headers: Any = None) -> None:
        body = json.dumps(said).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        begun.touch()
        time.sleep(0.5)
        handler.wfile.write(body)

    monkeypatch.setattr(Handler, "answer", answer_in_halves)
    program.run(
        """
        import os, signal, sys, time, predlog
        log = predlog.Client(flush_interval=0.01)
        log.log("parent", duration_ms=1, was_successful=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.001)
        time.sleep(0.1)
        pid = os.fork()
        if pid == 0:
            log.log("child", duration_ms=1, was_successful=True)
            os._exit(0 if log.flush(30) else 1)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.alarm(60)
        assert os.waitpid(pid, 0)[1] == 0
        assert log.flush(30)
        """,
        str(begun),
    )
    assert service.models == {"parent": 1, "child": 1} and set(service.copies.values()) == {1}


@needs_fork
def test_a_signal_handler_may_log_while_a_child_starts_its_clients_over(program: Program) -> None:
    program.run("""
        import signal, threading, predlog
        from predlog import forks, lifecycle
        log = predlog.Client()
        class Interrupted:
            def _start_over(self):
                log.log("in the handler", duration_ms=1, was_successful=True)
        interrupted = Interrupted()
        lifecycle._clients.add(interrupted)
        forks.mine[0] = 0  # as in a child of a host that runs no hooks
        thread = threading.Thread(target=log.flush, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive() and forks.mine[0]
    """)


@needs_fork
def test_children_draw_identifiers_of_their_own(program: Program, service: Service) -> None:
    program.run("""
        import os, random, predlog
        log = predlog.Client()
        random.seed(1)
        for number in range(5):
            pid = os.fork()
            if pid == 0:
                random.seed(1)
                log.log("m", duration_ms=number, was_successful=True)
                log.close()
                os._exit(0)
            os.waitpid(pid, 0)
    """)
    assert len({request_id[-12:] for request_id, _ in service.records}) == 5


@needs_fork
def test_a_fork_inside_a_tracked_call_counts_it_once(program: Program, service: Service) -> None:
    program.run("""
        import os, predlog
        log = predlog.Client()
        with log.track("m"):
            pid = os.fork()
        log.close()
        if pid:
            os.waitpid(pid, 0)
    """)
    assert len(service.records) == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_send_everything_before_they_end(
    program: Program, service: Service, method: Any
) -> None:
    program.run(
        """
        import multiprocessing, sys, predlog
        log = predlog.Client(flush_interval=60, exit_timeout=30)
        def work(number):
            for index in range(100):
                log.log(f"worker {number}", duration_ms=index, was_successful=True)
        if __name__ == "__main__":
            log.log("parent", duration_ms=1, was_successful=True)
            context = multiprocessing.get_context(sys.argv[1])
            workers = [context.Process(target=work, args=(number,)) for number in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0
        """,
        method,
    )
    assert service.models == {"parent": 1, "worker 0": 100, "worker 1": 100}
    assert set(service.copies.values()) == {1}


APPLICATION = """
    import os, predlog
    log = predlog.Client(flush_interval=60, exit_timeout=30)
    log.log("master", duration_ms=1, was_successful=True)   # threads run before the fork, too
    def application(environ, start_response):
        with log.track("model") as call:
            call.metadata["pid"] = os.getpid()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


@needs_fork
@needs_gunicorn
@pytest.mark.parametrize(
    "worker", [["--worker-class", "sync"], ["--worker-class", "gthread", "--threads", "2"]], ids=str
)
def test_under_gunicorn_with_preload_recycling_workers_lose_nothing(
    program: Program, service: Service, worker: Any
) -> None:
    program.write("served.py", APPLICATION)
    port = port_to_serve_at()
    gunicorn = program.start(
        *("-m", "gunicorn", "served:application", "--preload", "--workers", "2", "--max-requests", "15"),
        *("--bind", f"127.0.0.1:{port}", "--graceful-timeout", "60", "--log-level", "warning", *worker),
    )
    answered = 0
    pids = set()
    deadline = time.monotonic() + 120
    while answered < 100 and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                pids.add(answer.read())
                answered += 1
        except OSError:
            time.sleep(0.02)
    gunicorn.send_signal(signal.SIGTERM)
    _, errors = gunicorn.communicate(timeout=120)
    assert answered == 100, errors
    assert len(pids) > 4  # workers were recycled
    wait_until(lambda: service.models["model"] >= 100)
    assert service.models["model"] == 100 and set(service.copies.values()) == {1}
    assert len({record["metadata"]["pid"] for record in service.records.values() if "metadata" in record}) == len(pids)
    assert service.models["master"] == 1


@needs_fork
def test_a_client_in_use_does_not_keep_a_child_from_execing(program: Program, service: Service) -> None:
    out = program.run("""
        import subprocess, sys, predlog
        log = predlog.Client()
        log.log("m", duration_ms=1, was_successful=True)
        print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout)
    """)
    assert "child" in out and len(service.records) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@needs_fork
def test_a_forked_child_holds_none_of_its_parents_files(program: Program, service: Service, tmp_path: Path) -> None:
    service.mood = 503
    out = program.run(
        """
        import os, sys, time, predlog
        log = predlog.Client(flush_interval=0.05, spool_dir=sys.argv[1])
        log.log("m", duration_ms=1, was_successful=True)
        while not log.stats().spooled:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            held = [os.readlink(link) for link in links if os.path.islink(link)]
            print([path for path in held if "spool" in path], flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        log.close(0)
        """,
        str(tmp_path / "spool"),
    )
    assert out.strip() == "[]"
