"""What is released: the same bytes whoever builds it, and packages that work where nothing else is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from support.service import ROOT
from tools import release

EPOCH = 1_750_000_000
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "dist", "build", "_build", "screenshots")


def copy_of_the_sources(folder: Path) -> Path:
    for name in ("app", "migrations", "client"):
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    for name in ("config.py", "wsgi.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Two, of copies in different places, by people with different habits, at different times."""
    made = []
    for name, umask in (("one", 0o022), ("another", 0o077)):
        before = os.umask(umask)
        try:
            folder = tmp_path_factory.mktemp(name)
            sources = copy_of_the_sources(folder / "sources")
            for path in sources.rglob("*"):
                os.utime(path, (time.time(), time.time()))
            made.append(release.build(sources, folder / "dist", EPOCH))
        finally:
            os.umask(before)
    return made[0], made[1]


def test_two_builds_are_the_same_bytes(builds: tuple[list[Path], list[Path]]) -> None:
    one, another = builds
    assert len(one) == 4
    assert release.checksums(one) == release.checksums(another)


def test_every_package_holds_its_licence(builds: tuple[list[Path], list[Path]]) -> None:
    licence = (ROOT / "LICENSE").read_bytes()
    for package in builds[0]:
        if package.suffix == ".whl":
            with zipfile.ZipFile(package) as wheel:
                files = {name: wheel.read(name) for name in wheel.namelist()}
        else:
            with tarfile.open(package) as sdist:
                members = [member for member in sdist if member.isfile()]
                files = {member.name: sdist.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        [about] = [files[name] for name in files if re.search(r"(dist-info/METADATA|^[^/]*/PKG-INFO)$", name)]
        assert b"License-Expression: MIT" in about.splitlines(), package.name
        assert licence in [files[name] for name in files if name.endswith("/LICENSE")], package.name


def test_an_sdist_makes_the_same_wheel(builds: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    wheels = {file.name: file for file in builds[0] if file.suffix == ".whl"}
    for sdist in (file for file in builds[0] if file.suffix == ".gz"):
        with tarfile.open(sdist) as archive:
            archive.extractall(tmp_path, filter="data")
    for sources in tmp_path.iterdir():
        again = tmp_path / "again"
        command = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
        done = subprocess.run([sys.executable, "-c", command, again], cwd=sources, check=True, capture_output=True)
        name = done.stdout.decode().split()[-1]
        assert contents(again / name) == contents(wheels[name])


def test_the_client_works_in_an_environment_that_has_nothing_else(
    builds: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    [wheel] = [file for file in builds[0] if file.name.startswith("predlog-") and file.suffix == ".whl"]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment"], check=True)
    python = tmp_path / "environment" / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--no-index", wheel], check=True)
    said = subprocess.check_output([python.with_name("predlog"), "--version"], text=True, cwd="/", env={})
    assert said.split()[-1] == release.version(ROOT)
    script = (
        "import predlog; log = predlog.Client('http://127.0.0.1:9', exit_timeout=0); log.log('m', 1, True); log.close()"
    )
    subprocess.run([python, "-W", "error", "-c", script], check=True, cwd="/", env={}, capture_output=True)


def test_service_and_client_have_one_version_which_the_changelog_knows() -> None:
    assert release.version(ROOT)


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("client/src/predlog/version.py", '__version__ = "9.9.9"\n', "different versions"),
        ("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n", "no entry"),
    ],
)
def test_what_is_not_ready_is_not_released(path: str, text: str, reason: str, tmp_path: Path) -> None:
    for name in (*release.VERSIONS, Path("CHANGELOG.md")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / path).write_text(text)
    with pytest.raises(release.NotReady, match=reason):
        release.version(tmp_path)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
