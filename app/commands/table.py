"""Text for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return columns as wide as their widest cell.

    The first `left` of them are left-aligned, the others right-aligned.
    """
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["─" * width for width in widths])
    aligned = [str.ljust] * left + [str.rjust] * (len(head) - left)
    return "\n".join(
        "  ".join(align(cell, width) for align, cell, width in zip(aligned, line, widths)).rstrip() for line in lines
    )
