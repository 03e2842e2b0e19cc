"""Whether the service can be reached, takes the key, and agrees on the time: in words."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from predlog import response
from predlog.response import Acknowledged
from predlog.transport import BATCH_PATH, Transport

MAX_SKEW = 30.0  # seconds; the service refuses what lies further in the future than some minutes


class Check(NamedTuple):
    """What `Client.check()` found; it is true if records can be sent."""

    ok: bool
    text: str

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return self.text


def check(transport: Transport) -> Check:
    """Send an empty batch, which the service stores nothing of, and say what came of it."""
    began = time.time()
    try:
        answer = transport.post(BATCH_PATH, b"[]", {})
    except Exception as error:
        return Check(False, f"The service cannot be reached: {response.reason(error)}.")
    finally:
        transport.close()
    milliseconds = (time.time() - began) * 1000
    said = response.judge(answer, 0)
    if not isinstance(said, Acknowledged):
        return Check(False, f"Records cannot be sent: {response.summary(said)}.")
    text = f"The service answers in {milliseconds:.0f} ms and takes records with this key."
    skew = _skew(answer.date, (began + time.time()) / 2)
    if skew is None or abs(skew) <= MAX_SKEW:
        return Check(True, text)
    way = "ahead of" if skew > 0 else "behind"
    return Check(False, f"{text} But this machine's clock is {abs(skew):.0f} s {way} the service's: set it right.")


def _skew(date: str | None, now: float) -> float | None:
    """Seconds that this clock is ahead of the service's, which tells whole ones."""
    try:
        return now - parsedate_to_datetime(date or "").timestamp() - 0.5
    except (ValueError, TypeError, OverflowError):
        return None
