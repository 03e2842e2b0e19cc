"""What an answer of the service means for the batch that was sent."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from predlog.dropped import HEADER
from predlog.text import printable
from predlog.transport import BATCH_PATH, Answer, Transport

_BUSY = (408, 425, 429)
_ACKNOWLEDGED = (200, 207, 422)
_CONTENT = (400, 413, 422)
_HEADERS_TOO_LARGE = 431
MAX_REASON_CHARACTERS = 200

ADVICE = {
    401: "it wants a valid API key: set api_key or PREDLOG_API_KEY",
    403: "this API key may not write: use one with the write scope, for this model",
    404: "no Predlog service at this URL: check the host and the path in it",
}


class Acknowledged(NamedTuple):
    """The service answered for every record; the reports that were sent along are counted."""

    stored: int
    duplicates: int
    rejected: list[tuple[int, Mapping[str, Any]]]  # index in the batch, errors by field


class Refused(NamedTuple):
    """The content as a whole was refused (too large, or unreadable): smaller parts may pass."""

    status: int
    is_predlogs: bool = False  # whether the answer's body is an error of Predlog, not a page of a proxy


class Later(NamedTuple):
    """Nothing is known to be stored; send it again."""

    why: str
    retry_after: float | None = None  # seconds, as the service asked
    misconfigured: bool = False  # a wrong key or URL: waiting alone will not mend it


Verdict = Union[Acknowledged, Refused, Later]


def send(
    transport: Transport, lines: Sequence[bytes], dropped: str | None = None, timeout: float | None = None
) -> Verdict:
    """Send encoded records, and reports of dropped ones, as one request; network errors are returned, not raised."""
    headers = {HEADER: dropped} if dropped else {}
    body = b"[" + b",".join(lines) + b"]"
    try:
        answer = transport.post(BATCH_PATH, body, headers, timeout)
    except Exception as error:  # beside OSError and HTTPException all that a patched or ending interpreter raises
        return Later(reason(error))
    if dropped and answer.status == _HEADERS_TOO_LARGE:  # a proxy may let fewer reports pass
        return Refused(answer.status)
    return judge(answer, len(lines))


def judge(answer: Answer, count: int) -> Verdict:
    """The meaning of an answer to a batch of `count` records."""
    status = answer.status
    if status in _ACKNOWLEDGED:
        receipt = _receipt(answer.body, count)
        if receipt is not None:
            return receipt
    if status in _CONTENT:
        return Refused(status, _is_error(answer))
    if status in _BUSY or status >= 500:
        return Later(f"it answered {status}", answer.retry_after)
    if status in ADVICE:
        return Later(f"it answered {status}: {ADVICE[status]}", answer.retry_after, misconfigured=True)
    if 300 <= status < 400:
        why = f"it answered {status}, a redirect, which is not followed: set the URL to where it leads"
        return Later(why, answer.retry_after, misconfigured=True)
    return Later(f"it answered {status}, and not as Predlog does: check the URL", answer.retry_after, True)


def summary(said: Verdict) -> str:
    """A verdict in a few words, without what the service said of a record's values."""
    if isinstance(said, Acknowledged):
        return f"{said.stored} stored, {said.duplicates} duplicates, {len(said.rejected)} rejected"
    return f"refused with {said.status}" if isinstance(said, Refused) else f"to be sent again, {said.why}"


def reason(error: BaseException) -> str:
    """Why no answer came, in the system's own words; a proxy's refusal is among them, so they are cut and printable."""
    if isinstance(error, socket.timeout):
        return "it did not answer in time"
    if isinstance(error, http.client.HTTPException):
        return f"its answer broke off ({type(error).__name__})"
    words = f": {error}"[:MAX_REASON_CHARACTERS] if isinstance(error, OSError) else ""
    return printable(type(error).__name__ + words)


def _is_error(answer: Answer) -> bool:
    """Whether the body is an error as Predlog writes it."""
    try:
        return bool(json.loads(answer.body)["code"] == answer.status)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def _receipt(body: bytes, count: int) -> Acknowledged | None:
    """Return the receipt, or None if the body is not Predlog's: then nothing is known to be stored."""
    try:
        said = json.loads(body)
        stored, duplicates = said["stored"], said["duplicates"]
        rejected = list({entry["index"]: entry.get("errors") or {} for entry in said["rejected"]}.items())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    numbers = [stored, duplicates, *(index for index, _ in rejected)]
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    if any(index >= count for index, _ in rejected):
        return None
    return Acknowledged(stored, duplicates, rejected)
