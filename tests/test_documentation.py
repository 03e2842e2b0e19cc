"""The pages in docs/: they build without a warning, and what they say to do is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.page import Reader
from support.service import ROOT


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")  # is for Python 3.11 and newer
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "--quiet", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()


def test_the_tutorial_leads_from_a_model_server_to_an_alert(public_folder: Path) -> None:
    reader = Reader(public_folder, "tutorial", {"EMBEDDED_DATA_DIR": str(public_folder / "data")})
    reader.follow(ROOT / "docs" / "tutorial.md")
