"""`python -m app`, which is what `make run` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

import config
from app import __main__ as supervisor
from conftest import Server
from support.ports import free_port
from support.scratch import url_where_nobody_listens
from support.service import ROOT, Service, command_line, is_alive, running

PREDICTION = {"model_name": "m", "duration_ms": 1, "was_successful": True, "timestamp": "2025-06-09T12:00:00"}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def log_prediction(service: Service) -> int:
    status, record = service.request("POST", "/api/v1/predict-log", PREDICTION)
    assert status == 200, record
    return int(record["id"])


@linux_only
def test_ctrl_c_stops_every_process(public_folder: Path) -> None:
    with running(public_folder, EMBEDDED_DATA_DIR=str(public_folder / "data")) as service:
        processes = service.descendants()
        assert len(processes) > 4  # granian, its workers, the supervisor, PostgreSQL
        assert service.stop(signal.SIGINT) == 0
    assert not any(map(is_alive, processes))


def test_a_second_start_finds_the_data(public_folder: Path) -> None:
    settings = {"EMBEDDED_DATA_DIR": str(public_folder / "data")}
    with running(public_folder, **settings) as service:
        id = log_prediction(service)
    with running(public_folder, **settings) as service:
        assert service.request("GET", f"/api/v1/predictions/{id}")[1]["model_name"] == "m"


def test_at_sigterm_it_is_unready_before_it_stops(public_folder: Path) -> None:
    data = str(public_folder / "data")
    with running(public_folder, EMBEDDED_DATA_DIR=data, SHUTDOWN_DELAY_S="8") as service:
        service.process.send_signal(signal.SIGTERM)
        while (answer := service.request("GET", "/ready"))[0] == 200:
            time.sleep(0.05)
        assert (answer[0], answer[1]["message"]) == (503, "The service is shutting down.")
        assert service.request("GET", "/health")[0] == 200
        assert service.process.wait(timeout=120) == 0


@linux_only
@pytest.mark.parametrize("depth", ["master", "worker"])
def test_it_serves_again_by_itself_after_kill_9_of(depth: str, public_folder: Path) -> None:
    with running(public_folder, EMBEDDED_DATA_DIR=str(public_folder / "data")) as service:
        log_prediction(service)
        granian = [pid for pid in service.descendants() if b"granian" in command_line(pid)]
        ending = granian if depth == "master" else granian[-1:]  # workers end when they miss their master
        os.kill(ending[0], signal.SIGKILL)
        for _ in range(300):
            if all(map(has_ended, ending)):
                break
            time.sleep(0.1)
        assert serves(service, 20), service.log


def serves(service: Service, predictions: int) -> bool:
    """Whether so many predictions in a row are logged, in two minutes: the workers that are left may still end."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            for _ in range(predictions):
                log_prediction(service)
        except (OSError, HTTPException):
            time.sleep(0.2)
        else:
            return True
    return False


def has_ended(pid: int) -> bool:
    """Return whether the process is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@linux_only
def test_kill_9_of_the_supervisor_leaves_no_process(public_folder: Path) -> None:
    with running(public_folder, EMBEDDED_DATA_DIR=str(public_folder / "data")) as service:
        processes = service.descendants()
        service.process.kill()
        service.process.wait()
        until = time.monotonic() + 120
        while any(map(is_alive, processes)) and time.monotonic() < until:
            time.sleep(0.2)
        assert not [pid for pid in processes if is_alive(pid)]


@linux_only
def test_a_start_removes_the_folder_of_a_supervisor_that_was_killed(public_folder: Path) -> None:
    settings = {"EMBEDDED_DATA_DIR": str(public_folder / "data")}
    with running(public_folder, **settings) as service:
        pattern = f"predlog-*-{service.process.pid}-*"
        (folder,) = [path for parent in ("/dev/shm", tempfile.gettempdir()) for path in Path(parent).glob(pattern)]
        service.process.kill()
        service.process.wait()
    assert folder.exists()
    with running(public_folder, **settings):
        assert not folder.exists()


def test_a_start_removes_no_folder_but_those_of_dead_supervisors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    prefix, dead = supervisor._folder_prefix(), process.pid
    others = (
        f"{prefix}{os.getpid()}-a",
        f"{prefix}1-a",
        f"predlog-7-{dead}-a",
        f"predlog-{dead}",
        f"{prefix}x-{dead}-a",
    )
    for name in (f"{prefix}{dead}-a", *others):
        (tmp_path / name / "metrics").mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    supervisor._remove_left_folders(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1 + len(others), "they belong to another user"
    monkeypatch.undo()
    supervisor._remove_left_folders(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_a_bad_setting_stops_the_start_with_a_sentence(public_folder: Path) -> None:
    service = Service(public_folder, WORKERS="many")
    assert service.process.wait(timeout=120) == 2
    assert "WORKERS" in service.log
    assert "Traceback" not in service.log


@linux_only
def test_workers_do_not_read_the_owners_password_from_a_file(
    servers: Callable[[str], Server], public_folder: Path
) -> None:
    address = servers("plain").url
    (public_folder / "owner").write_text(address)
    settings = {"DATABASE_URL": address, "DATABASE_DIRECT_URL_FILE": str(public_folder / "owner")}
    with running(public_folder, **settings) as service:
        workers = [pid for pid in service.descendants() if b"granian" in command_line(pid)]
        for pid in workers:
            assert b"DATABASE_DIRECT_URL_FILE=\0" in Path(f"/proc/{pid}/environ").read_bytes()
    assert workers


@linux_only
def test_a_hang_up_does_not_stop_a_service_under_nohup(public_folder: Path) -> None:
    service = Service(
        public_folder, EMBEDDED_DATA_DIR=str(public_folder / "data"), program=("nohup", sys.executable, "-m", "app")
    )
    try:
        service.wait_until_ready()
        service.process.send_signal(signal.SIGHUP)
        assert service.request("GET", "/ready")[0] == 200
    finally:
        assert service.stop(signal.SIGTERM) == 0
    assert "SIGHUP" not in service.log


def test_a_database_that_is_away_stops_the_start_with_a_sentence(public_folder: Path) -> None:
    service = Service(
        public_folder, DATABASE_URL=f"postgresql://user:secret@127.0.0.1:{free_port()}/none", START_TIMEOUT_S="1"
    )
    assert service.process.wait(timeout=120) == 2
    assert "the database is not available" in service.log
    assert "secret" not in service.log


@linux_only
def test_ctrl_c_stops_the_wait_for_a_database_that_is_away(public_folder: Path) -> None:
    service = Service(public_folder, DATABASE_URL=f"postgresql://user@127.0.0.1:{free_port()}/none")
    until = time.monotonic() + 120
    while not (processes := service.descendants()) and time.monotonic() < until:
        time.sleep(0.05)
    assert processes
    assert service.stop(signal.SIGINT) == 0
    assert not any(map(is_alive, processes))


def test_a_database_that_cannot_be_migrated_stops_the_start_with_a_sentence(
    public_folder: Path, servers: Callable[[str], Server], model: str
) -> None:
    server = servers("plain")
    url = make_url(server.url).set(database=model)
    with create_engine(server.url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{model}"')
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version AS SELECT '0003' AS version_num")
    service = Service(public_folder, DATABASE_URL=url.render_as_string(hide_password=False))
    assert service.process.wait(timeout=120) == 1
    assert "The database is at revision 0003 of Predlog 0.1." in service.log
    assert "predlog: the database could not be prepared (exit code 1)" in service.log


def test_the_supervisor_imports_neither_flask_nor_sqlalchemy() -> None:
    heavy = "{'flask', 'sqlalchemy', 'alembic'} & set(sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", f"import app.__main__, sys; print({heavy})"], cwd=ROOT)
    assert said.decode().strip() == "set()"


def test_workers_are_forked_from_a_process_without_threads_or_files_of_metrics(tmp_path: Path) -> None:
    look = "import app.server.granian_server, sys, threading; print(threading.active_count(), 'wsgi' in sys.modules)"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    said = subprocess.check_output([sys.executable, "-c", look], cwd=ROOT, env=environment)
    assert said.decode().split() == ["1", "False"]
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_stops_the_start_with_a_sentence(public_folder: Path) -> None:
    data = str(public_folder / "data")
    with running(public_folder, EMBEDDED_DATA_DIR=data) as service:
        second = Service(
            public_folder, "--no-migrate", PORT=str(service.port), DATABASE_URL="postgresql://x@127.0.0.1/x"
        )
        assert second.process.wait(timeout=120) == 2
        assert f"{service.port} is in use" in second.log


def test_commands_read_the_env_file_of_their_own_folder_alone_as_the_service_does(tmp_path: Path) -> None:
    """Flask reads those of all folders above as well, and .flaskenv."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in (tmp_path / ".env", tmp_path / ".flaskenv", folder / ".flaskenv"):
        file.write_text("WORKERS=many\n")
    environment = {name: value for name, value in os.environ.items() if name not in config.NAMES}
    settings = {"PYTHONPATH": str(ROOT), "DATABASE_URL": url_where_nobody_listens()}
    command = [sys.executable, "-m", "app", "keys", "list"]

    def said() -> str:
        run = subprocess.run(
            command, cwd=folder, env={**environment, **settings}, stderr=subprocess.PIPE, text=True, timeout=120
        )
        return run.stderr

    assert said() == "Error: The database is not available.\n"
    (folder / ".env").write_text("THREADS=many\n")
    assert said().startswith('predlog: Environment variable "THREADS"')
