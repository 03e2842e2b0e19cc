"""Which HTTP requests are predictions, and how they ended: what all middlewares share."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Callable, Optional

from predlog.text import NAME_CHARACTERS
from predlog.throttled_log import say

if TYPE_CHECKING:
    from predlog.client import Client
    from predlog.tracking import Call

IGNORED = (
    "/health*", "/live*", "/ready*", "/ping", "/metrics*", "/docs*", "/redoc*", "/openapi.json", "/favicon.ico",
    "/static/*", "/admin*",
)  # fmt: skip
IsSuccess = Callable[[int], Optional[bool]]

_REQUESTS: tuple[str, ...] = ("routes", "ignore", "is_success")  # options of Requests
_EXCEPTIONS = "ignore_exceptions"  # the client's ignore, since the paths have that name
_PLACEHOLDER = re.compile(r"(\{\w+(?::\w+)?\}|<(?:\w+:)?\w+>)")


def by_status(status: int) -> bool | None:
    """5xx is a failure; 4xx (None) is not logged, because the request was wrong and no model was asked."""
    return None if 400 <= status < 500 else status < 500


class Requests:
    """Begins to time each request that is a prediction.

    routes: patterns of paths and names of models, as `{"/models/{name}/predict": "{name}"}`; the first that matches
        counts. Placeholders may be spelled as Flask, Django and Starlette spell them. None: all paths, and a framework
        that knows the route names the model.
    ignore: paths that are never logged, with `*` for anything.
    is_success: from the HTTP status; None means that the request is not logged.

    Raises ValueError if a name has a placeholder that its pattern lacks.
    """

    def __init__(
        self,
        log: Client,
        routes: Mapping[str, str] | None = None,
        ignore: Iterable[str] = IGNORED,
        is_success: IsSuccess = by_status,
    ) -> None:
        self.log = log
        self._routes = None if routes is None else [(_compiled(path, name), name) for path, name in routes.items()]
        self._ignored = re.compile("|".join(translate(path) for path in ignore) or "(?!)")
        self._is_success = is_success

    def begin(self, path: str) -> Request | None:
        """Start timing, unless the path is not of interest."""
        name = self._name(path)
        if name is None:
            return None
        return Request(self.log.track(name).__enter__(), self._is_success)

    def _name(self, path: str) -> str | None:
        if self._ignored.match(path):
            return None
        if self._routes is None:
            return ""
        for pattern, name in self._routes:
            match = pattern.fullmatch(path)
            if match is not None:
                return name.format(**match.groupdict())[:NAME_CHARACTERS]
        return None


class Request:
    """One request that is being answered."""

    def __init__(self, call: Call, is_success: IsSuccess) -> None:
        self.call = call
        self.status: int | None = None
        self.raised: BaseException | None = None  # told by a host that made an answer of it
        self._is_success = is_success
        self._ended = False

    def end(self, raised: BaseException | None = None) -> None:
        """Log the prediction once: its answer is out, or it raised. Without a model's name it is not logged."""
        if self._ended:
            return
        self._ended = True
        raised = raised or self.raised
        call = self.call
        if raised is None and call.error is None and not self._judge():
            return
        if call.model_name:
            call.__exit__(None if raised is None else type(raised), raised, None)

    def _judge(self) -> bool:
        """Whether to log it; sets the error if the status says that it failed."""
        success: bool | None = False
        if self.status is not None:
            try:
                success = self._is_success(self.status)
            except Exception as error:  # the host's own function must not break the host's answer
                text = "Predlog: is_success raised %s for status %d"
                say(logging.WARNING, text, type(error).__name__, self.status)
                success = by_status(self.status)
        if success is False:
            self.call.error = "no answer" if self.status is None else f"HTTP {self.status}"
        return success is not None


def _compiled(path: str, name: str) -> re.Pattern[str]:
    parts = _PLACEHOLDER.split(path.rstrip("/") or "/")
    pieces = (_placeholder(part) if index % 2 else re.escape(part) for index, part in enumerate(parts))
    pattern = re.compile("".join(pieces) + "/?")
    try:
        name.format(**dict.fromkeys(pattern.groupindex, ""))
    except (KeyError, IndexError, ValueError):
        raise ValueError(f"the model name {name!r} has a placeholder that its route {path!r} lacks") from None
    return pattern


def _placeholder(part: str) -> str:
    """`{name}` and `{name:path}` of Starlette, `<name>` and `<path:name>` of Flask and Django."""
    if part[0] == "{":
        name, _, kind = part[1:-1].partition(":")
    else:
        kind, _, name = part[1:-1].rpartition(":")
    return f"(?P<{name}>{'.+' if kind == 'path' else '[^/]+'})"


def from_settings(settings: Mapping[str, Any]) -> tuple[Client, dict[str, Any]]:
    """A client, and the options of `Requests`, of a host's settings with names like `Client`'s options, in any case.

    `ignore` is that of `Requests`; the client's is `ignore_exceptions`.

    Raises ValueError for a value, and TypeError for a name that is none of them.
    """
    from predlog.client import Client

    options = {name.lower(): value for name, value in settings.items()}
    requests = {name: options.pop(name) for name in _REQUESTS if name in options}
    if _EXCEPTIONS in options:
        options["ignore"] = options.pop(_EXCEPTIONS)
    log: Client | None = options.pop("log", None)
    return log or Client(**options), requests
