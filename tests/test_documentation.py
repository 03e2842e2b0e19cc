"""The pages in docs/: they build without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")  # is for Python 3.11 and newer
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "--quiet", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
