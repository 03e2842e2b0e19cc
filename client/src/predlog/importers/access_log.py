"""Access logs in the combined format with a duration at the end of each line, as nginx, gunicorn and Apache write them.

The model is found in the path; lines of other paths are no predictions and are left out. docs/import.md has more.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timezone
from hashlib import sha256
from typing import BinaryIO
from urllib.parse import unquote

from predlog.importers.records import Found, Record, identifier, record

LINE = re.compile(
    r'\S+ \S+ .*?\[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) \S+'
    r'(?: "(?:[^"\\]|\\.)*")*\s+(?P<duration>\d+(?:\.\d+)?)\s*$'
)
REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S+)")
PATH = (
    r"/models/(?P<model>[^/:?]+)(?:/versions/(?P<version>[^/:?]+)|/labels/[^/:?]+)?"
    r"[/:](?:predict|infer|generate|invoke|invocations|classify|regress|score)\w*/?$"  # such as infer_stream
)
NO_PREDICTIONS = ("HEAD", "OPTIONS")  # probes, and what browsers ask before a request
MILLISECONDS = {"s": 1000.0, "ms": 1.0, "us": 0.001}


def read(
    file: BinaryIO, name: str, *, model: str | None = None, path: str | None = None, unit: str | None = None
) -> Found:
    """The records of the lines that are predictions. Raises ValueError if `path` is no regular expression."""
    try:
        pattern = re.compile(path or PATH)
    except re.error as error:
        raise ValueError(f"--path is no regular expression: {error}") from None
    if model is None and "model" not in pattern.groupindex:
        raise ValueError("--path has no group (?P<model>…)")
    seen: Counter[bytes] = Counter()
    for number, raw in enumerate(file, 1):
        line = raw.strip()
        if not line:
            continue
        digest = sha256(line).digest()
        seen[digest] += 1
        try:
            found = _record(line.decode(), pattern, model, unit)
        except ValueError as error:
            yield number, error
            continue
        if found is not None:
            yield number, {**found, "request_id": identifier("access-log", digest.hex(), seen[digest])}


def _record(line: str, pattern: re.Pattern[str], model: str | None, unit: str | None) -> Record | None:
    match = LINE.match(line)
    if match is None:
        raise ValueError("not a line of the combined format with a duration at its end")
    request = REQUEST.match(match["request"])  # none if the client sent no HTTP, such as TLS to a port without it
    if request is None or request["method"] in NO_PREDICTIONS:
        return None
    place = pattern.search(request["target"].partition("?")[0])
    groups = {name: unquote(value) for name, value in (place.groupdict() if place else {}).items() if value}
    model = model or groups.get("model")
    if model is None:
        return None
    status, duration = int(match["status"]), match["duration"]
    return record(
        model_name=model,
        model_version=groups.get("version"),
        duration_ms=float(duration) * MILLISECONDS[unit or ("s" if "." in duration else "us")],
        was_successful=status < 400,
        timestamp=_moment(match["time"]).isoformat(),
        metadata={"status": status, "method": request["method"]},
    )


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").astimezone(timezone.utc)
