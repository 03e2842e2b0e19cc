"""What the commands share: exit codes, errors, text that is safe to print, a progress bar."""

from __future__ import annotations

import argparse
import enum
import os
import sys
import time
from typing import Any, BinaryIO

from predlog.text import printable

BAR_WIDTH = 30
REDRAW_SECONDS = 0.1


class Exit(enum.IntEnum):
    """Exit codes of the command."""

    DONE = 0
    REJECTED = 1
    USAGE = 2
    AWAY = 3
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with a sentence for the user."""

    def __init__(self, text: str, code: Exit = Exit.AWAY) -> None:
        super().__init__(text)
        self.code = code


def open_to_read(path: str) -> BinaryIO:
    """Open a file that the user named. Raises CommandError."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise CommandError(f"{printable(path)}: {error.strerror}", Exit.USAGE) from None


def service_of(options: argparse.Namespace) -> str:
    """The URL of the service, as it is kept beside a file."""
    return (options.url or os.environ.get("PREDLOG_URL", "")).rstrip("/")


class ServiceAway(CommandError):
    """The service cannot be reached, or cannot answer now: it may be asked again."""


def flatten(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Nested JSON as (path, value) pairs."""
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in flatten(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [pair for index, item in enumerate(value) for pair in flatten(item, f"{path}[{index}]")]
    if isinstance(value, list):
        return [(path, ", ".join(str(item) for item in value))]
    return [(path, value)]


class Progress:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self, total: int | None) -> None:
        self._total = total  # bytes to send, or predictions to export
        self._began = time.monotonic()
        self._drawn = 0.0
        self._shown = sys.stderr.isatty()

    def show(self, done: int, lines: int, sent: int, last: bool = False) -> None:
        """Draw `done` bytes of the total; `lines` of the file are behind us, `sent` of them in this run."""
        now = time.monotonic()
        if not self._shown or (now - self._drawn < REDRAW_SECONDS and not last):
            return
        self._drawn = now
        rate = f"{lines:,} lines, {sent / max(now - self._began, 0.001):,.0f}/s"
        if self._total is None:
            text = rate
        else:
            share = done / self._total if self._total else 1.0
            filled = round(share * BAR_WIDTH)
            text = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {share:4.0%}  {rate}"
        print(f"\r\033[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        print(f"\r\033[K{text}" if self._shown else text, file=sys.stderr, flush=True)
