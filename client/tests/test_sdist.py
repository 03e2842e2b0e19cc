"""What is handed to packagers: the sources, and tests that run from them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.skipif(not (HERE.parent / "pyproject.toml").is_file(), reason="not run from the sources")
def test_the_sdist_holds_every_test_and_its_helpers(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    project = tmp_path / "project"
    shutil.copytree(HERE.parent, project, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "dist"))
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=project, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    tests = {str(path.relative_to(HERE.parent)) for path in HERE.rglob("*.py")}
    assert tests | {"README.md", "LICENSE"} <= names and "src/predlog/py.typed" in names
