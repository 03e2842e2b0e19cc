"""Predictions and statistics as data frames, for notebooks: of pandas, or of polars.

Nothing of this is loaded before one of these functions is used, and neither is pandas nor polars.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import IO, Any
from urllib.parse import urlencode

from predlog.connecting import Route
from predlog.settings import Settings
from predlog.transport import Transport

TIMEOUT = 60.0
READ_BYTES = 256 * 1024
FRAMES = ("pandas", "polars")
PARQUET_MAGIC = b"PAR1"  # at the beginning and the end of a file
NOT_PREDLOG = "the service answered 200, but not as Predlog does: check the host and the path in its URL"


class ServiceError(Exception):
    """The service could not be reached, or has refused the question; the text says why."""


def read(*, url: str | None = None, api_key: str | None = None, frame: str | None = None, **filters: Any) -> Any:
    """All predictions that were sent whole and pass the filters, oldest first, one a row.

    `filters` are those of `GET /api/v1/predictions/export`: `model_name`, `model_version`, `was_successful`,
    `from_date`, `to_date`, `timezone`, `min_duration_ms`. `metadata` is JSON text. The frame is of pandas or polars: of
    what `frame` names, or of the first of them that is installed. The service is at `url` or PREDLOG_URL, the key is
    `api_key` or PREDLOG_API_KEY. Raises ServiceError, and ImportError if there is no such library.
    """
    library = _library(frame)
    query = {{"from_date": "from", "to_date": "to"}.get(name, name): value for name, value in filters.items()}
    with tempfile.TemporaryFile() as file:
        _download("/api/v1/predictions/export", {**query, "format": "parquet"}, file, url, api_key)
        if library == "polars":
            import polars

            return polars.read_parquet(file)
        import pandas

        return pandas.read_parquet(file)


def stats(*, url: str | None = None, api_key: str | None = None, frame: str | None = None, **query: Any) -> Any:
    """Statistics over a range: one row, or with `group_by` one for each group, which is the index of pandas.

    `query` are the parameters of `GET /api/v1/stats`; nested figures of its answer have dotted names, such as
    `percentiles.95`. With pandas `attrs` tells the rest of the answer. Otherwise like `read`.
    """
    library = _library(frame)
    answer = _ask("/api/v1/stats", query, url, api_key)
    groups = answer.pop("groups", None)
    keys = [name for name in ("model_name", "model_version") if groups and name in groups[0]]
    rows = [{name: answer[name] for name in answer if name not in ABOUT}] if groups is None else groups
    return _frame(library, rows, keys, answer)


def timeseries(*, url: str | None = None, api_key: str | None = None, frame: str | None = None, **query: Any) -> Any:
    """Statistics by points of time, one a row; the beginning of the point, `from`, is the index of pandas.

    So `timeseries(…)["percentiles.95"].plot()` is a plot over time, in the time zone that was asked for. `query` are
    the parameters of `GET /api/v1/stats/timeseries`. Otherwise like `stats`.
    """
    library = _library(frame)
    answer = _ask("/api/v1/stats/timeseries", query, url, api_key)
    found = _frame(library, answer.pop("points"), [], answer)
    if library == "polars":
        import polars

        times = polars.col("from", "to").str.to_datetime(time_zone="UTC")
        return found.with_columns(times.dt.convert_time_zone(answer["timezone"])) if found.width else found
    import pandas

    for name in ("from", "to") if len(found.columns) else ():
        found[name] = pandas.to_datetime(found[name], utc=True).dt.tz_convert(answer["timezone"])
    return found.set_index("from") if len(found.columns) else found


def compare(*, url: str | None = None, api_key: str | None = None, frame: str | None = None, **query: Any) -> Any:
    """Two versions or ranges side by side: a row for the success rate and for each percentile of the duration.

    The columns are `measure` (the index of pandas), `a`, `b`, `change` (a difference of rates, a ratio of durations),
    `low` and `high` of its confidence interval, `more_than_chance`, `verdict`. `query` are the parameters of
    `GET /api/v1/stats/compare`. Otherwise like `stats`.
    """
    library = _library(frame)
    answer = _ask("/api/v1/stats/compare", query, url, api_key)
    rows = [_measure("success_rate", answer, answer["success_rate"], "difference")]
    for percentile, found in answer["duration"]["percentiles"].items():
        rows.append(_measure(f"percentiles.{percentile}", answer, found, "ratio"))
    return _frame(library, rows, ["measure"], answer)


# What of an answer is about all of it.
ABOUT = ("range", "cut_to_request", "percentile_relative_error", "freshness")


def _measure(name: str, answer: dict[str, Any], found: dict[str, Any], change: str) -> dict[str, Any]:
    interval = found.get("confidence_interval") or {}
    return {
        "measure": name,
        **{side: dict(_flat(answer[side])).get(name) for side in ("a", "b")},
        "change": found.get(change),
        "low": interval.get("low"),
        "high": interval.get("high"),
        "more_than_chance": found.get("more_than_chance"),
        "verdict": found.get("verdict"),
    }


def _library(frame: str | None) -> str:
    if frame is not None and frame not in FRAMES:
        raise ValueError(f"frame must be one of {', '.join(FRAMES)}, not {frame!r}")
    for name in FRAMES if frame is None else (frame,):
        if find_spec(name) is not None:
            return name
    wanted = frame or FRAMES[0]
    raise ImportError(f"data frames need {frame or 'pandas or polars'}: pip install 'predlog[{wanted}]'")


def _frame(library: str, rows: Sequence[dict[str, Any]], index: list[str], answer: dict[str, Any]) -> Any:
    flat = [dict(_flat(row)) for row in rows]
    if library == "polars":
        import polars

        return polars.DataFrame(flat, infer_schema_length=None)
    import pandas

    frame = pandas.DataFrame(flat)
    frame.attrs.update(answer)
    return frame.set_index(index) if index else frame


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _ask(path: str, query: dict[str, Any], url: str | None, api_key: str | None) -> dict[str, Any]:
    with tempfile.TemporaryFile() as file:
        _download(path, query, file, url, api_key)
        try:
            answer = json.load(file)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ServiceError(NOT_PREDLOG)
        return answer


def _download(path: str, query: dict[str, Any], file: IO[bytes], url: str | None, api_key: str | None) -> None:
    """Write an answer to a file, and go back to the file's beginning. Raises ServiceError."""
    url = url or os.environ.get("PREDLOG_URL")
    if not url:
        raise ServiceError("no service: pass url or set PREDLOG_URL")
    key = api_key or os.environ.get("PREDLOG_API_KEY") or None
    transport = Transport(url, key, TIMEOUT, Route.of(Settings.made_of({})))
    written = {name: _text(value) for name, value in query.items() if value is not None}
    try:
        answer = transport.stream(f"{path}?{urlencode(written, doseq=True)}", {"Accept": "*/*"}, TIMEOUT)
        if answer.status != 200:
            raise ServiceError(_refusal(answer.status, answer.read(READ_BYTES)))
        expected = answer.length
        while piece := answer.read1(READ_BYTES):
            file.write(piece)
        if expected is not None and file.tell() < expected:  # read1() takes a cut for the end
            raise http.client.IncompleteRead(b"", expected - file.tell())
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"the service gave no whole answer: {type(error).__name__}: {error}") from None
    finally:
        transport.close()
    if query.get("format") == "parquet":
        _check_parquet(file)
    file.seek(0)


def _check_parquet(file: IO[bytes]) -> None:
    """Raise ServiceError unless the file begins and ends as one of Parquet does."""
    length = file.tell()
    file.seek(0)
    if file.read(len(PARQUET_MAGIC)) != PARQUET_MAGIC:
        raise ServiceError(NOT_PREDLOG)
    file.seek(max(length - len(PARQUET_MAGIC), 0))
    if file.read() != PARQUET_MAGIC:
        raise ServiceError("the service has cut the export: ask for a shorter range, or use `predlog export`")


def _text(value: Any) -> Any:
    """A value as a query string has it: lists are repeated, booleans lower case, dates and times in ISO 8601."""
    if isinstance(value, (list, tuple)):
        return [_text(part) for part in value]
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else value


def _refusal(status: int, body: bytes) -> str:
    try:
        said = json.loads(body)
        return f"the service answered {status}: {said.get('message') or said['errors']}"
    except (ValueError, LookupError, AttributeError):
        return f"the service answered {status}"
