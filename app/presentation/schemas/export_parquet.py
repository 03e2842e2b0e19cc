"""Exported predictions as Parquet, if pyarrow is installed.

pyarrow reads the server's CSV without Python's interpreter, which other threads need meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from app.application.export import Block
from app.presentation.schemas.export_text import COLUMNS

# A row group has at most so many predictions, or about so many characters: larger groups would take too much memory.
GROUP_ROWS = 8_000
GROUP_CHARACTERS = 2 * 2**20
# Of these columns no smallest and largest values are written: they help no reader, and the writer would hold those of
# all groups in memory until the end.
OPTIONAL = ("error", "metadata", "request_id")
# Sent between two row groups to keep the connection from being silent: the footer says where each group begins.
PADDING = b"\0"


def is_installed() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def parquet(blocks: Iterable[Block]) -> Iterator[bytes]:
    """Yield the file piece by piece; a file that was cut has no footer, so no program reads it by mistake."""
    from pyarrow import PythonFile
    from pyarrow.parquet import ParquetWriter

    schema, sink = _schema(), _Sink()
    file = PythonFile(sink, "w")
    writer = ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        write_statistics=[name for name in COLUMNS if name not in OPTIONAL],
    )
    for lines in _groups(blocks):
        if lines:
            writer.write_table(_table(lines, schema))
        else:
            file.write(PADDING)
        yield sink.taken()
    writer.close()
    yield sink.taken()


def _schema() -> Any:
    import pyarrow as pa

    types = {
        "id": pa.int64(),
        "timestamp": pa.timestamp("us", "UTC"),
        "duration_ms": pa.float64(),
        "was_successful": pa.bool_(),
    }
    return pa.schema([pa.field(name, types.get(name, pa.string()), name in OPTIONAL) for name in COLUMNS])


def _groups(blocks: Iterable[Block]) -> Iterator[list[str]]:
    """Yield the lines of each row group; a block without lines becomes a group without any."""
    lines: list[str] = []
    characters = 0
    for block in blocks:
        if not block.lines:
            yield []
        lines += block.lines
        characters += sum(map(len, block.lines))
        if len(lines) >= GROUP_ROWS or characters >= GROUP_CHARACTERS:
            yield lines
            lines, characters = [], 0
    if lines:
        yield lines


def _table(lines: list[str], schema: Any) -> Any:
    from pyarrow import csv, py_buffer

    text = "\n".join(lines).encode()
    return csv.read_csv(
        py_buffer(text),
        csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=list(COLUMNS)),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    ).cast(schema)


class _Sink:
    """A file in memory whose content can be taken out piece by piece."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """All is in memory."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        """Return the bytes that were written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
