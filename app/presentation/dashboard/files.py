"""The files of the pages: read once, compressed once, and served below a digest of their contents."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

STATIC = Path(__file__).parent / "static"
MIMETYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# The package is made for Django, but its file is plain; it is found, never imported, and needs no Django.
PACKAGE = "unfold"
CHARTS = "chart.js"
CHARTS_PATH = "static/unfold/js/chart/chart.js"


@dataclass(frozen=True)
class File:
    """One file as it is sent."""

    content: bytes
    compressed: bytes
    mimetype: str
    etag: str


@cache
def files() -> dict[str, File]:
    """Every file by its name; without the charts if the package that ships them is not installed."""
    paths = [path for path in sorted(STATIC.iterdir()) if path.suffix in MIMETYPES]
    charts = _charts()
    return {path.name: _read(path) for path in (*paths, *([charts] if charts else []))}


@cache
def digest() -> str:
    """Return the digest of all files, which changes as soon as one of them does."""
    return hashlib.sha256("".join(file.etag for file in files().values()).encode()).hexdigest()[:16]


def _read(path: Path) -> File:
    content = path.read_bytes()
    compressed = gzip.compress(content, mtime=0)
    return File(content, compressed, MIMETYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])


def _charts() -> Path | None:
    found = find_spec(PACKAGE)
    path = Path(found.origin).parent / CHARTS_PATH if found and found.origin else None
    return path if path and path.is_file() else None
