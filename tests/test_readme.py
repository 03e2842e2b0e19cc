"""What the README shows is what happens."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SESSION = re.compile(r"^\$ (curl .*)\n(.*)$", re.MULTILINE)


@pytest.mark.parametrize(("name", "length"), [("README.md", 6), ("README.ru.md", 2)])
def test_the_curl_session_replays(fresh_service: int, name: str, length: int) -> None:
    steps = SESSION.findall((ROOT / name).read_text())
    assert len(steps) >= length
    for command, shown in steps:
        arguments = shlex.split(command.replace("localhost:8000", f"127.0.0.1:{fresh_service}"))
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == json.loads(shown), command


def test_the_russian_readme_keeps_step() -> None:
    """It has the sections of the English one, in their order, and leads to the same pages."""
    english, russian = ((ROOT / name).read_text() for name in ("README.md", "README.ru.md"))
    assert len(re.findall(r"^## ", russian, re.MULTILINE)) == len(re.findall(r"^## ", english, re.MULTILINE))
    pages = [set(re.findall(r"\]\(((?:client|docs)/[^)#]+)", text)) for text in (english, russian)]
    assert pages[0] - pages[1] == set()


@pytest.mark.parametrize("name", ["README.md", "README.ru.md", "SECURITY.md", "CONTRIBUTING.md", "client/README.md"])
def test_links_lead_to_files_that_exist(name: str) -> None:
    document = ROOT / name
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target
