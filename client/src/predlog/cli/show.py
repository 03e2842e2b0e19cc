"""`predlog tail`, `predlog stats` and `predlog histogram`."""

from __future__ import annotations

import argparse
import http.client
import json
import math
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

from predlog.cli.console import BAR_WIDTH, CommandError, Exit, ServiceAway, flatten
from predlog.response import ADVICE, reason
from predlog.text import printable
from predlog.transport import Transport

MAX_PAGE = 1000
OVERLAP = timedelta(minutes=10)  # a prediction is logged after its end, and maybe long after it began
MAX_REMEMBERED = 20 * MAX_PAGE
_NEXT = re.compile(r'<[^>]*\?([^>]*)>; *rel="?next"?')


def tail(transport: Transport, options: argparse.Namespace) -> int:
    """Print the last predictions, then those that come. A prediction that began more than 10 minutes before the newest
    one is not shown, for example a longer call, or one that waited in a client's spool; nor is one that is not among
    the newest 1,000 when it comes."""
    query: dict[str, Any] = {}
    if options.model is not None:
        query["model_name"] = options.model
    if options.failed:
        query["was_successful"] = "false"
    predictions = _newest(transport, query, options.lines)
    newest = max(map(_instant, predictions), default=datetime.now(timezone.utc))
    if not options.once:  # what the next look will find again is not new, also if it is not among the last N
        since = _since(newest)
        older = [prediction for prediction in predictions if _instant(prediction) < since]
        predictions = _newest(transport, {**query, "from": since.isoformat()}, MAX_PAGE) + older
    _print(reversed(predictions[: options.lines]), options.json)
    if options.once:
        return Exit.DONE
    seen: dict[Any, None] = {}
    while True:
        _remember(seen, predictions)
        time.sleep(options.interval)
        predictions = _next(transport, {**query, "from": _since(newest).isoformat()})
        fresh = [prediction for prediction in predictions if prediction["id"] not in seen]
        if len(fresh) == MAX_PAGE:
            print(f"predlog: more than {MAX_PAGE} new predictions, the older ones are not shown", file=sys.stderr)
        _print(reversed(fresh), options.json)
        newest = max([newest, *map(_instant, predictions)])


def _since(newest: datetime) -> datetime:
    """From when on the next look must look; the clock of the host that logged the newest may be fast."""
    return min(newest, datetime.now(timezone.utc)) - OVERLAP


def _remember(seen: dict[Any, None], predictions: Sequence[Any]) -> None:
    """Keep what was seen last: a prediction that is still among the newest must not be forgotten."""
    for prediction in reversed(predictions):
        seen.pop(prediction["id"], None)
        seen[prediction["id"]] = None
    for identifier in list(seen)[: max(0, len(seen) - MAX_REMEMBERED)]:
        del seen[identifier]


def stats(transport: Transport, options: argparse.Namespace) -> int:
    """Print the statistics of a range as a table."""
    answer = fetch(transport, "/api/v1/stats", _query(options, under_ms=options.under))
    if options.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return Exit.DONE
    pairs = [(printable(path), _figure(value)) for path, value in flatten(answer)]
    width = max((len(path) for path, _ in pairs), default=0)
    for path, value in pairs:
        print(f"{path:<{width}}  {value:>16}")
    return Exit.DONE


def histogram(transport: Transport, options: argparse.Namespace) -> int:
    """Draw how the durations of a range are distributed, one bar for each bin."""
    answer = fetch(transport, "/api/v1/stats/histogram", _query(options, bins=options.bins))
    if options.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return Exit.DONE
    longest = max((item["count"] for item in answer["bins"]), default=0)
    for item in answer["bins"]:
        bar = "#" * math.ceil(item["count"] / longest * BAR_WIDTH) if longest else ""
        print(f"{item['from_ms']:>14,.6g} to {item['to_ms']:>12,.6g} ms  {item['count']:>12,}  {bar}".rstrip())
    print(f"{answer['total_requests']:,} predictions; completeness {_figure(answer['completeness'])}")
    return Exit.DONE


def _query(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    query = {"model_name": options.model, "from": options.from_, "to": options.to, **more}
    return {name: value for name, value in query.items() if value}


def _next(transport: Transport, query: dict[str, Any]) -> list[Any]:
    """The next look; a service that goes away meanwhile is waited for."""
    try:
        return _newest(transport, query, MAX_PAGE)
    except CommandError as error:
        print(f"predlog: {error}; trying again", file=sys.stderr)
        return []


def _newest(transport: Transport, query: dict[str, Any], count: int) -> list[Any]:
    """The newest predictions, up to that many, from several pages if need be: a page ends at a megabyte."""
    predictions: list[Any] = []
    following: str | None = _encoded({**query, "limit": count})
    while following is not None and len(predictions) < count:
        page, following = _page(transport, "/api/v1/predictions", following)
        predictions += page
    return predictions[:count]


def fetch(transport: Transport, path: str, query: dict[str, Any]) -> Any:
    """Return the JSON of an answer; raises CommandError with the error and advice."""
    return _page(transport, path, _encoded(query))[0]


def _encoded(query: dict[str, Any]) -> str:
    return urlencode(query, doseq=True, errors="surrogateescape")


def _page(transport: Transport, path: str, query: str) -> tuple[Any, str | None]:
    """The JSON of an answer, and the query of the next page, if there is one. Raises CommandError."""
    try:
        answer = transport.get(f"{path}?{query}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        kind = CommandError if isinstance(error, ValueError) else ServiceAway  # a wrong certificate stays wrong
        raise kind(f"the service cannot be reached: {reason(error)}") from None
    if answer.status in ADVICE:
        raise CommandError(f"the service answered {answer.status}: {ADVICE[answer.status]}")
    try:
        said = json.loads(answer.body)
    except ValueError:
        said = None
    if answer.status in (400, 422):
        errors = flatten(said.get("errors") or said.get("message") or "") if isinstance(said, dict) else []
        text = "; ".join(printable(f"{field}: {error}" if field else error) for field, error in errors)
        raise CommandError(f"the service refused the request: {text}", Exit.USAGE)
    if answer.status != 200:
        raise ServiceAway(f"the service answered {answer.status}, try again later")
    if not isinstance(said, (dict, list)):
        raise CommandError(f"the service answered 200, but not as Predlog does: {ADVICE[404]}")
    following = _NEXT.search(answer.link or "")
    return said, following[1] if following else None


def _print(predictions: Iterable[Any], as_json: bool) -> None:
    for prediction in predictions:
        print(json.dumps(prediction, ensure_ascii=False) if as_json else _line(prediction))
    sys.stdout.flush()


def _line(prediction: dict[str, Any]) -> str:
    model = " ".join(printable(prediction[name]) for name in ("model_name", "model_version") if prediction.get(name))
    moment = _instant(prediction).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    outcome = "ok    " if prediction["was_successful"] else "FAILED"
    error = f"  {printable(prediction['error'])}" if prediction.get("error") else ""
    return f"{moment}Z  {outcome}  {prediction['duration_ms']:>12,.3f} ms  {model}{error}"


def _instant(prediction: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(prediction["timestamp"].replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return printable(value)
    return f"{value if isinstance(value, int) else round(value, 6):,}"
