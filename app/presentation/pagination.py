"""How an answer leads to the next page of a list."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import request


def link_to_next_page(cursor: str) -> str:
    """The header Link of a page: the same query with this cursor.

    The address is relative to that of the request, so it is right behind any proxy, whatever prefix that proxy takes
    off, and no header of a proxy has to be trusted for it.
    """
    query = {**request.args.to_dict(flat=False), "cursor": cursor}
    return f'<?{urlencode(query, doseq=True)}>; rel="next"'
