"""Webhooks: the bodies of messages, and the HTTP request that sends one."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from string import Template
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from app.application.alert_delivery import DeliveryFailed
from app.application.alerts import Event, Message
from app.domain.alert_states import State
from app.domain.predictions import text_problem

# To connect, to send, and for the whole answer from then on.
TIMEOUT_S = 10.0
USER_AGENT = "predlog-alerts"
MAX_RETRY_AFTER = timedelta(hours=1)
# The placeholders of templates.
PLACEHOLDERS = ("rule", "model", "state", "value", "measured", "condition", "at", "link", "text")
WORDS = {State.FIRING: "FIRING", State.RESOLVED: "Resolved", State.NO_DATA: "Cannot be measured"}
MAX_DEPTH = 50
TOO_DEEP = f"A template may have lists and objects in {MAX_DEPTH} levels."
SLACK = '{"text": "$text"}'


@dataclass(frozen=True)
class Webhook:
    """A receiver of messages. `url` may hold a secret; `template` is JSON with placeholders in its strings."""

    name: str
    url: str = field(repr=False)
    template: Any
    is_slack: bool = False

    def body(self, values: Mapping[str, str]) -> str:
        """Return the JSON to send."""
        escaped = {name: _for_slack(value) for name, value in values.items()} if self.is_slack else values
        return json.dumps(_filled(self.template, escaped), ensure_ascii=False)


class Webhooks:
    """All webhooks, by their names."""

    def __init__(self, webhooks: Sequence[Webhook], public_url: str | None) -> None:
        """`public_url` is the address of this service for people: messages link to its page about the model."""
        self._webhooks = {webhook.name: webhook for webhook in webhooks}
        self._public_url = public_url

    @property
    def names(self) -> Sequence[str]:
        return list(self._webhooks)

    def messages(self, event: Event, names: Sequence[str]) -> Sequence[Message]:
        """Return the messages to these webhooks about an event."""
        values = _values(event, self.link(event))
        return [Message(name, self._webhooks[name].body(values)) for name in names]

    def link(self, event: Event) -> str:
        """Return the address of the model's page at the time of the event; empty without a `public_url`."""
        if not self._public_url:
            return ""
        span = {"from": event.window.start.isoformat(), "to": event.window.end.isoformat()}
        return f"{self._public_url}/dashboard/model?{urlencode({'model_name': event.key.model_name, **span})}"

    def send(self, name: str, message_id: UUID, body: str) -> None:
        """Send a message to a webhook. Raises DeliveryFailed unless the answer is 2xx."""
        webhook = self._webhooks.get(name)
        if webhook is None:
            raise DeliveryFailed("There is no such webhook in the file of the alerts.")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Idempotency-Key": str(message_id),
        }
        request = urllib.request.Request(webhook.url, body.encode(), headers, method="POST")
        try:
            with _open(request, timeout=TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise DeliveryFailed(f"It answered {error.code}.", _retry_after(error)) from None
        except urllib.error.URLError as error:
            # The error's own text is left out, because it could have the secret address in it.
            reason = error.reason
            raise DeliveryFailed(f"No connection: {type(reason).__name__}.") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DeliveryFailed(f"No answer: {type(error).__name__}.") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because messages go only to the address that the operator has set."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _InTime(io.RawIOBase):
    """Reads from a socket until a deadline: the timeout of a socket alone would be for each byte that comes."""

    def __init__(self, connection: socket.socket, file: io.RawIOBase) -> None:
        self._connection, self._file, self._deadline = connection, file, time.monotonic() + TIMEOUT_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(connection, *arguments, **named)
        self.fp = io.BufferedReader(_InTime(connection, self.fp.detach()))


class _HttpConnection(http.client.HTTPConnection):
    response_class = _Answer


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, request)


_open: Callable[..., Any] = urllib.request.build_opener(_NoRedirect, _Http, _Https).open


def _retry_after(error: urllib.error.HTTPError) -> timedelta | None:
    """The seconds of Retry-After; its other form, a date, would need the clocks to agree."""
    text = error.headers.get("Retry-After", "")
    return min(timedelta(seconds=int(text)), MAX_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _values(event: Event, link: str) -> dict[str, str]:
    state = WORDS[event.state]
    text = f"{state}: {event.key.rule}, model {event.key.model_name}\n{event.text}"
    return {
        "rule": event.key.rule,
        "model": event.key.model_name,
        "state": event.state.value,
        "value": "" if event.value is None else f"{event.value:.6g}",
        "measured": event.text,
        "condition": event.condition,
        "at": event.at.isoformat(timespec="seconds"),
        "link": link,
        "text": f"{text}\n{link}" if link else text,
    }


def _for_slack(text: str) -> str:
    """Slack reads <!channel>, <@name> and <address|text> as commands: the name of a model must give none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _filled(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return Template(node).substitute(values)
    if isinstance(node, list):
        return [_filled(part, values) for part in node]
    return {key: _filled(part, values) for key, part in node.items()} if isinstance(node, dict) else node


def _is_deeper(node: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more than so many levels."""
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
    return parts is not None and (levels == 0 or any(_is_deeper(part, levels - 1) for part in parts))


def read_template(text: str) -> Any:
    """Return JSON with placeholders in its strings. Raises ValueError with a sentence about the mistake."""
    try:
        template = json.loads(text)
        json.dumps(template, allow_nan=False)
    except ValueError:
        raise ValueError("Not JSON.") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if _is_deeper(template, MAX_DEPTH):
        raise ValueError(TOO_DEEP)
    try:
        _filled(template, dict.fromkeys(PLACEHOLDERS, ""))
    except KeyError as error:
        names = ", ".join(f"${name}" for name in PLACEHOLDERS)
        raise ValueError(f"There is no ${error.args[0]}; there are {names}.") from None
    except ValueError:
        raise ValueError("A $ that is no placeholder is written $$.") from None
    if problem := text_problem(json.dumps(template, ensure_ascii=False)):
        raise ValueError(problem)
    return template
