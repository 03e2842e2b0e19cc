"""Links from a page of a list to the next one."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import request


def link_to_next_page(cursor: str) -> str:
    """Return the header Link of a page: the same query with this cursor.

    The address is relative to the address of the request, so it is right behind any proxy that takes a prefix off, and
    the service need not trust a proxy's headers.
    """
    query = {**request.args.to_dict(flat=False), "cursor": cursor}
    return f'<?{urlencode(query, doseq=True)}>; rel="next"'
