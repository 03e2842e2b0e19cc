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


def test_the_curl_session_replays(fresh_service: int) -> None:
    steps = SESSION.findall((ROOT / "README.md").read_text())
    assert len(steps) >= 6
    for command, shown in steps:
        arguments = shlex.split(command.replace("localhost:8000", f"127.0.0.1:{fresh_service}"))
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == json.loads(shown), command


@pytest.mark.parametrize("name", ["README.md", "README.ru.md", "SECURITY.md", "CONTRIBUTING.md", "client/README.md"])
def test_links_lead_to_files_that_exist(name: str) -> None:
    document = ROOT / name
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target
