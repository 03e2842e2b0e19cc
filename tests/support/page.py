"""The code blocks of a page in docs/, run as a reader would.

The words behind a block's language say how; a page that is read shows nothing of them:

- `file=NAME`: what stands in the file NAME of the folder that the page works in;
- `sh`: commands. With `port=N` they go on until the end of the page, or until another block takes the port;
- `console`: lines with `$` are commands, the others what they print, in which `…` stands for anything;
- `text from=N`: what the program on port N prints at last;
- `engine=NAME`: only on this storage engine;
- `in=checkout`: the commands are for the checkout of Predlog, all others for the page's folder.

A port in a page is another, free one in the test.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.ports import free_port
from support.service import ROOT, clean_environment

BLOCK = re.compile(r"^ *```(\w+)([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PORTS = r"\b(8000|5050|9099|5432)\b"
WAIT = 90  # seconds; machines that run all tests at once are slow


@dataclass(frozen=True)
class Block:
    """A code block: its language, the words behind it, its text."""

    language: str
    options: Mapping[str, str]
    text: str


def blocks(path: Path, section: str = "") -> Iterator[Block]:
    """Those of a page, or of its section with this heading."""
    page = path.read_text()
    if section:
        page = re.split(r"^## ", page.split(f"\n## {section}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    for language, words, text in BLOCK.findall(page):
        yield Block(language, dict(word.split("=", 1) for word in words.split() if "=" in word), textwrap.dedent(text))


@dataclass
class Reader:
    """Does what a page says, in a folder that is its home."""

    folder: Path
    """Where `~/NAME` of the page is."""
    name: str
    """Of the page's own folder in it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More of the environment, as EMBEDDED_DATA_DIR."""
    engine: str = "plain"
    ports: dict[str, int] = field(default_factory=dict)
    """Which port stands for a port of the page; those that are missing are chosen."""
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def follow(self, page: Path | Iterable[Block], section: str = "") -> None:
        """Do what a page, a section of it, or blocks say. Raises AssertionError if something is not as it is said."""
        try:
            for block in blocks(page, section) if isinstance(page, Path) else page:
                self.do(block)
        finally:
            for port in list(self._running):
                self._stop(port)

    def do(self, block: Block) -> None:
        if block.options.get("engine", self.engine) != self.engine:
            return
        text = re.sub(PORTS, self._port, block.text)
        if "file" in block.options:
            (self.folder / self.name / block.options["file"]).write_text(text)
        elif "from" in block.options:
            log = self._log(block.options["from"])
            _wait(lambda: _matches(log.read_text(), f"…{text}…"), lambda: log.read_text())
        elif block.language == "console":
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                self._compare(command, shown, block)
        elif block.language == "sh" and "port" in block.options:
            self._start(text, block)
        elif block.language == "sh":
            done = self._run(text, block)
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"

    def _compare(self, command: str, shown: str, block: Block) -> None:
        """Predictions that are logged in the background arrive a moment later, so ask again."""
        last = ""

        def is_shown() -> bool:
            nonlocal last
            done = self._run(command, block)
            last = done.stdout + done.stderr
            return done.returncode == 0 and _matches(done.stdout, shown)

        _wait(is_shown, lambda: f"$ {command}\n{last}\ninstead of\n{shown}")

    def _run(self, text: str, block: Block) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-euo", "pipefail", "-c", self._here(text)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, **self._place(block))

    def _start(self, text: str, block: Block) -> None:
        port = block.options["port"]
        self._stop(port)
        with self._log(port).open("wb") as log:
            self._running[port] = process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self._here(text)],
                stdout=log, stderr=log, start_new_session=True, **self._place(block),
            )  # fmt: skip
        _wait(lambda: _listens(self.ports[port]) or process.poll() is not None, self._log(port).read_text)
        assert process.poll() is None, self._log(port).read_text()

    def _stop(self, port: str) -> None:
        """Ctrl-C, and a kill if that does nothing."""
        process = self._running.pop(port, None)
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _here(self, text: str) -> str:
        """The environment of the tests is what `make` would have made."""
        python = shlex.quote(str(Path(sys.executable).parent))
        return re.sub(r"\bmake run\b|\bpredlog-server\b", "python -m app", text).replace(".venv/bin/", f"{python}/")

    def _place(self, block: Block) -> dict[str, Any]:
        folder = self.folder / self.name
        folder.mkdir(exist_ok=True)
        own = {
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'client' / 'src'}",
            "SHUTDOWN_DELAY_S": "0.5",
            # pip finds what a page installs in the environment of the tests, and changes nothing.
            "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DRY_RUN": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }  # fmt: skip
        if "8000" in self.ports:
            own["PORT"] = str(self.ports["8000"])
        at = ROOT if block.options.get("in") == "checkout" else folder
        return {"cwd": at, "env": clean_environment(**{**own, **self.settings})}

    def _port(self, found: re.Match[str]) -> str:
        return str(self.ports.setdefault(found[0], free_port()))

    def _log(self, port: str) -> Path:
        self.ports.setdefault(port, free_port())
        return self.folder / f"{port}.log"


def _matches(text: str, shown: str) -> bool:
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in shown.split("…"))
    return re.fullmatch(rf"\s*{pattern}\s*", " ".join(text.split()), re.DOTALL) is not None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(is_so: Callable[[], bool], describe: Callable[[], str]) -> None:
    until = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < until, describe()
        time.sleep(0.2)
