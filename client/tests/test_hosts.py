"""Hosts that change what a thread or a fork is: gevent, eventlet, uWSGI. The real ones, and every record counted."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from misbehaving import Service, port_to_serve_at, uwsgi_is_idle, wait_until

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


PATCHED = [
    pytest.param(f"{patch}; import {name}; spawn = {name}.spawn", id=name, marks=needs(name))
    for name, patch in [
        ("gevent", "from gevent import monkey; monkey.patch_all()"),
        ("eventlet", "import eventlet; eventlet.monkey_patch()"),
    ]
]


def call(port: int, times: int, seconds: float = 120) -> list[bytes]:
    """Answers of a server that is just coming up; each is what it said."""
    answers: list[bytes] = []
    deadline = time.monotonic() + seconds
    while len(answers) < times and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                answers.append(answer.read())
        except OSError:
            time.sleep(0.05)
    return answers


@pytest.mark.parametrize("patch", PATCHED)
@pytest.mark.parametrize("early", [0, 100], ids=["made", "used"])
def test_a_client_from_before_the_patching_neither_stops_the_greenlets_nor_loses_a_record(
    program: Program, service: Service, patch: Any, early: Any
) -> None:
    out = program.run(
        """
        import sys, time, predlog
        log = predlog.Client(flush_interval=0.2)
        for index in range(int(sys.argv[2])):
            log.log("early", duration_ms=index, was_successful=True)
        exec(sys.argv[1])
        ticks = done = 0
        def tick():
            global ticks
            while True:
                time.sleep(0.001)
                ticks += 1
        spawn(tick)
        def work():
            global done
            for index in range(100):
                log.log("late", duration_ms=index, was_successful=True)
                time.sleep(0.001)
            done += 1
        for _ in range(3):
            spawn(work)
        while done < 3:
            time.sleep(0.01)
        before = ticks
        log.log("last", duration_ms=1, was_successful=True)
        assert log.flush(30)
        print(ticks > before)
        log.log("at exit", duration_ms=1, was_successful=True)
        """,
        patch,
        str(early),
    )
    assert out.strip() == "True"
    assert service.models == {"late": 300, "last": 1, "at exit": 1, **({"early": early} if early else {})}


@needs_fork
@needs("gevent")
def test_greenlets_of_a_parent_that_go_on_in_its_child_send_nothing_there(
    program: Program, service: Service, tmp_path: Path
) -> None:
    program.run(
        """
        from gevent import monkey; monkey.patch_all()
        import os, sys, time, predlog
        options = {"flush_interval": 0.3, "exit_timeout": 30}
        logs = [predlog.Client(**options), predlog.Client(**options, spool_dir=sys.argv[1])]
        for log in logs:
            log.log("", duration_ms=1, was_successful=True)
            log.log("parent", duration_ms=1, was_successful=True)
        time.sleep(0.01)
        pid = os.fork()
        for log in logs:
            log.log("child" if pid == 0 else "parent", duration_ms=1, was_successful=True)
        time.sleep(1)
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        """,
        str(tmp_path / "spool"),
    )
    assert service.models == {"parent": 4, "child": 2}
    assert set(service.copies.values()) == {1} and service.lost == 2


APPLICATION = """
    import os, predlog
    log = predlog.Client(flush_interval=0.2, exit_timeout=30)
    log.log("import", duration_ms=1, was_successful=True)
    def application(environ, start_response):
        with log.track("model") as call:
            call.metadata["pid"] = os.getpid()
        done = log.flush(30)
        with log.track("late"):
            pass
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(done).encode()]
"""


@needs_fork
@needs("gunicorn", "gevent")
def test_gunicorns_gevent_workers_with_preload_answer_and_lose_nothing(program: Program, service: Service) -> None:
    program.write("served.py", APPLICATION)
    port = port_to_serve_at()
    gunicorn = program.start(
        *("-m", "gunicorn", "served:application", "--preload", "--workers", "2", "-k", "gevent", "--timeout", "60"),
        *("--bind", f"127.0.0.1:{port}", "--graceful-timeout", "60", "--log-level", "warning"),
    )
    answers = call(port, 20)
    gunicorn.send_signal(signal.SIGTERM)
    _, errors = gunicorn.communicate(timeout=120)
    assert answers == [b"True"] * 20 and "TIMEOUT" not in errors, errors
    wait_until(lambda: service.models["late"] == 20)
    assert service.models == {"import": 1, "model": 20, "late": 20} and set(service.copies.values()) == {1}


def test_at_exit_a_name_is_looked_up_though_no_thread_can_be_had_for_it(program: Program, service: Service) -> None:
    program.run(
        """
        import socket, predlog
        def refuse(*_, **__):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        socket.getaddrinfo = refuse  # as gevent's does then
        log = predlog.Client(flush_interval=60)
        log.log("m", duration_ms=1, was_successful=True)
        """,
        environment={"PREDLOG_URL": service.url.replace("127.0.0.1", "localhost")},
    )
    assert len(service.records) == 1


@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="calls fork() of the C library by its Linux name")
@pytest.mark.parametrize("marked", [True, False], ids=["page", "pid"])
def test_a_child_that_is_forked_without_pythons_hooks_sends_its_own_records(
    program: Program, service: Service, marked: Any
) -> None:
    program.run(
        """
        import ctypes, mmap, os, sys, threading, time
        if sys.argv[1] == "False":
            del mmap.MAP_ANONYMOUS
        import predlog
        log = predlog.Client(flush_interval=60)
        fork = ctypes.PyDLL(None).fork
        for index in range(100):
            log.log("parent", duration_ms=index, was_successful=True)
        children = []
        for number in range(3):
            pid = fork()
            if pid == 0:
                if number == 0:  # whichever method comes first
                    assert log.stats().queued == 0
                def work():
                    for index in range(50):
                        log.log(f"child {number}", duration_ms=index, was_successful=True)
                workers = [threading.Thread(target=work) for _ in range(2)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                assert log.flush(30)
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        """,
        str(marked),
    )
    assert service.models == {"parent": 100, "child 0": 100, "child 1": 100, "child 2": 100}
    assert set(service.copies.values()) == {1}


UWSGI = shutil.which("uwsgi", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@needs_fork
@pytest.mark.skipif(UWSGI is None, reason="uwsgi is not installed")
@pytest.mark.parametrize("threads", [["--enable-threads"], []], ids=["threads", "no threads"])
def test_under_uwsgi_nothing_is_lost(program: Program, service: Service, threads: Any) -> None:
    program.write(
        "served.py",
        """
        import predlog
        log = predlog.Client(flush_interval=0.2, exit_timeout=30)
        log.log("import", duration_ms=1, was_successful=True)
        def application(environ, start_response):
            with log.track("model"):
                start_response("200 OK", [])
            return [b"ok"]
        """,
    )
    port = port_to_serve_at()
    uwsgi = program.start(
        *("--http-socket", f"127.0.0.1:{port}", "--module", "served", "--master", "--processes", "2", *threads),
        *("--max-requests", "30", "--need-app", "--die-on-term", "--disable-logging"),
        *("--stats", f"127.0.0.1:{(stats := port_to_serve_at())}"),
        executable=UWSGI,
    )
    answers = call(port, 200)
    wait_until(lambda: uwsgi_is_idle(stats))
    uwsgi.send_signal(signal.SIGTERM)
    _, errors = uwsgi.communicate(timeout=120)
    assert len(answers) == 200, errors
    assert service.models == {"import": 1, "model": 200}, errors
    assert set(service.copies.values()) == {1}
    assert ("--enable-threads" in errors) == (not threads)


POOL = """
    import sys, predlog
    {imports}
    log = predlog.Client(flush_interval=60, exit_timeout=30)
    def work(number):
        log.log("task", duration_ms=number, was_successful=True)
    if __name__ == "__main__":
        {main}
"""


@pytest.mark.parametrize("context", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_workers_of_a_pool_that_is_closed_send_what_they_have(program: Program, service: Service, context: str) -> None:
    main = f"""
        pool = multiprocessing.get_context("{context}").Pool(3)
        pool.map(work, range(300))
        pool.close()
        pool.join()
    """
    program.run(POOL.format(imports="import multiprocessing", main=main.strip()))
    assert service.models == {"task": 300} and set(service.copies.values()) == {1}


@needs_fork
@needs("joblib")
def test_workers_of_joblibs_multiprocessing_send_what_they_flush(program: Program, service: Service) -> None:
    main = """
        def flushed(number):
            work(number)
            log.flush()
        with joblib.parallel_config("multiprocessing"):
            joblib.Parallel(n_jobs=2)(joblib.delayed(flushed)(number) for number in range(100))
    """
    program.run(POOL.format(imports="import joblib", main=main.strip()))
    assert service.models == {"task": 100}


@needs_fork
@needs("billiard")
def test_workers_of_billiards_pool_send_everything_when_they_are_replaced_or_end(
    program: Program, service: Service
) -> None:
    main = """
        pool = billiard.Pool(2, maxtasksperchild=5)
        pool.map(work, range(40), chunksize=1)
        pool.close()
        pool.join()
    """
    program.run(POOL.format(imports="import billiard", main=main.strip()))
    assert service.models == {"task": 40}


@needs_fork
@needs("celery")
def test_celerys_children_send_everything(program: Program, service: Service, tmp_path: Path) -> None:
    program.write(
        "tasks.py",
        f"""
        import celery, predlog
        folder = {str(tmp_path / "broker")!r}
        app = celery.Celery("tasks", broker="filesystem://")
        app.conf.broker_transport_options = {{"data_folder_in": folder, "data_folder_out": folder}}
        app.conf.worker_max_tasks_per_child = 7
        begun = {str(tmp_path / "begun")!r}
        log = predlog.Client(flush_interval=60, exit_timeout=30)
        @app.task
        @log.tracked("task")
        def work(number):
            with open(begun, "a") as file:
                file.write("1")
            return number
        """,
    )
    (tmp_path / "broker").mkdir()
    program.run("import tasks; [tasks.work.delay(number) for number in range(50)]")
    worker = program.start("-m", "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "2", "-l", "WARNING")
    begun = tmp_path / "begun"
    wait_until(lambda: begun.exists() and len(begun.read_text()) == 50, 120)  # which are ended before the worker is
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate(timeout=120)
    assert service.models == {"task": 50}, errors


@needs_fork
@pytest.mark.parametrize("before", ["signal.SIG_DFL", "lambda *_: sys.exit(3)", "signal.SIG_IGN"])
def test_a_signal_is_handed_on_after_what_waits_is_sent(program: Program, service: Service, before: Any) -> None:
    code = {"signal.SIG_DFL": -signal.SIGTERM, "signal.SIG_IGN": 0}.get(before, 3)
    program.run(
        f"""
        import os, signal, sys, predlog
        signal.signal(signal.SIGTERM, {before})
        log = predlog.Client(flush_interval=60, exit_timeout=30)
        log.install_signal_handler()
        log.log("m", duration_ms=1, was_successful=True)
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        code=code,
    )
    assert len(service.records) == 1


@needs("uvicorn", "fastapi")
def test_uvicorn_sends_everything_with_a_flush_in_the_lifespan(program: Program, service: Service) -> None:
    program.write(
        "served.py",
        """
        import contextlib, anyio, fastapi, predlog
        log = predlog.Client(flush_interval=60, exit_timeout=30)
        @contextlib.asynccontextmanager
        async def lifespan(app):
            yield
            await anyio.to_thread.run_sync(log.flush, 30)
        app = fastapi.FastAPI(lifespan=lifespan)
        @app.get("/")
        def predict():
            with log.track("model"):
                return 1
        """,
    )
    port = port_to_serve_at()
    uvicorn = program.start("-m", "uvicorn", "served:app", "--port", str(port), "--log-level", "warning")
    answers = call(port, 100)
    uvicorn.send_signal(signal.SIGTERM)
    _, errors = uvicorn.communicate(timeout=120)
    assert len(answers) == 100 and service.models == {"model": 100}, errors
