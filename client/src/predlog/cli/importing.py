"""`predlog import`: an export of Predlog, or what another system has kept; a repeated import adds nothing."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
from collections.abc import Iterator
from importlib import import_module
from typing import BinaryIO

from predlog.cli.checkpoint import of_stream, size_of
from predlog.cli.console import CommandError, Exit, open_to_read
from predlog.cli.ndjson import InvalidLine, Line
from predlog.cli.sending import Sending
from predlog.importers.records import Found
from predlog.text import printable
from predlog.transport import Transport

MODULES = {"predlog": "own", "access-log": "access_log"}
ONLY_ACCESS_LOG = ("model", "path", "unit")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def import_file(transport: Transport, options: argparse.Namespace) -> int:
    """Store the predictions of a file; the exit code says whether every one was stored."""
    given = {name: getattr(options, name) for name in ONLY_ACCESS_LOG if getattr(options, name) is not None}
    if given and options.source != "access-log":
        raise CommandError(f"--{next(iter(given))} is for --from access-log", Exit.USAGE)
    module = import_module(f"predlog.importers.{MODULES.get(options.source, options.source)}")
    try:
        with open_to_read(options.file) as file:
            records = _Records(file, module.read(file, options.file, **given))
            state, _ = of_stream(file)
            return Sending(transport, state, records, size_of(file), options.retry_timeout).run()
    except (ValueError, csv.Error) as error:  # a file that is something else altogether
        raise CommandError(printable(error), Exit.USAGE) from None


class _Records:
    """What an importer finds, as lines to send."""

    unfinished = False

    def __init__(self, file: BinaryIO, found: Found) -> None:
        self._file, self._found = file, found
        self._size = size_of(file)
        self.line = 0
        self.digest = hashlib.sha256()

    @property
    def offset(self) -> int:
        """How far the file was read, in bytes; 0 for a pipe."""
        return 0 if self._size is None else os.lseek(self._file.fileno(), 0, os.SEEK_CUR)

    def __iter__(self) -> Iterator[Line | InvalidLine]:
        for number, found in self._found:
            self.line = number
            if isinstance(found, ValueError):
                yield InvalidLine(self.line, str(found))
            else:
                yield Line(self.line, _encode(found).encode("utf-8", "replace"))
