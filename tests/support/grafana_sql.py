"""What Grafana makes of a query before PostgreSQL sees it: variables, then the macros of its PostgreSQL data source.

In its order: the browser puts in the values of the dashboard's variables, the server then the interval, and at last
the macros. https://grafana.com/docs/grafana/latest/datasources/postgres/query-editor/ describes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)\]\]")
MACRO = re.compile(r"\$(\w+)\(([^)]*)\)")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

# The intervals that Grafana rounds to, in seconds.
ROUND = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800]

Value = str | list[str]


@dataclass(frozen=True)
class Variable:
    """The value of a variable; `quoted` if it may have several, and is then quoted by Grafana."""

    value: Value
    quoted: bool = False


@dataclass(frozen=True)
class View:
    """What a dashboard shows: a range of time, the values of its variables, and whether TimescaleDB is switched on."""

    start: datetime
    end: datetime
    timescaledb: bool
    variables: Mapping[str, Variable]

    def expand(self, sql: str, interval: str = "", max_data_points: int = 1000) -> str:
        """The SQL that PostgreSQL gets. `interval` is the panel's least one, itself with variables."""
        text = self._put_in_variables(sql)
        least = seconds(self._put_in_variables(interval)) if interval else 1
        step = max(rounded((self.end - self.start).total_seconds() / max_data_points), least)
        text = text.replace("$__interval_ms", str(int(step * 1000))).replace("$__interval", written(step))
        return self._evaluate_macros(text)

    def _put_in_variables(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name, style = match[1] or match[2] or match[4], match[3]
            return formatted(self.variables[name], style) if name in self.variables else match[0]

        return VARIABLE.sub(value, text)

    def _evaluate_macros(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name, arguments = match[1], [argument.strip() for argument in match[2].split(",")]
            if name == "__timeGroup" and text[match.end() : match.end() + 1] == ",":
                name = "__timeGroupAlias"  # as before Grafana 5.3
            return self._macros()[name](*arguments)

        return MACRO.sub(value, text)

    def _macros(self) -> dict[str, Callable[..., str]]:
        start, end = instant(self.start), instant(self.end)
        since, until = int(self.start.timestamp()), int(self.end.timestamp())
        nano = 10**9
        return {
            "__time": lambda column: f'{column} AS "time"',
            "__timeEpoch": lambda column: f'extract(epoch from {column}) as "time"',
            "__timeFilter": lambda column: f"{column} BETWEEN '{start}' AND '{end}'",
            "__timeFrom": lambda _: f"'{start}'",
            "__timeTo": lambda _: f"'{end}'",
            "__timeGroup": self._group,
            "__timeGroupAlias": lambda *arguments: f'{self._group(*arguments)} AS "time"',
            "__unixEpochFrom": lambda _: str(since),
            "__unixEpochTo": lambda _: str(until),
            "__unixEpochFilter": lambda column: f"{column} >= {since} AND {column} <= {until}",
            "__unixEpochNanoFrom": lambda _: str(since * nano),
            "__unixEpochNanoTo": lambda _: str(until * nano),
            "__unixEpochNanoFilter": lambda column: f"{column} >= {since * nano} AND {column} <= {until * nano}",
            "__unixEpochGroup": epoch_group,
            "__unixEpochGroupAlias": lambda *arguments: f'{epoch_group(*arguments)} AS "time"',
        }

    def _group(self, column: str, interval: str, fill: str = "") -> str:
        """`fill` is the value that Grafana gives missing points; PostgreSQL never sees it."""
        width = seconds(interval.strip("'"))
        if self.timescaledb:
            return f"time_bucket('{width:.3f}s',{column})"
        return f"floor(extract(epoch from {column})/{width:g})*{width:g}"


def epoch_group(column: str, interval: str, fill: str = "") -> str:
    """Seconds since 1970, cut to whole intervals."""
    width = seconds(interval.strip("'"))
    return f"floor(({column})/{width:g})*{width:g}"


def formatted(variable: Variable, style: str | None) -> str:
    """A variable's value as `${name:style}` asks for it; without a style, as the data source quotes it."""
    values = variable.value if isinstance(variable.value, list) else [variable.value]
    if style == "raw":
        return ",".join(values)
    if style in ("sqlstring", "singlequote"):
        return ",".join(quoted(value) for value in values)
    if style is not None:
        raise ValueError(f"no such format here: {style}")
    if isinstance(variable.value, list) or variable.quoted:
        return ",".join(quoted(value) for value in values)
    return variable.value.replace("'", "''")


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC, without zeros at the end of a fraction."""
    text = moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def seconds(interval: str) -> float:
    """How long 1m or 250ms is."""
    match = re.fullmatch(r"(\d+)(ms|[smhdwy])", interval)
    if match is None:
        raise ValueError(f"not an interval: {interval!r}")
    return int(match[1]) / 1000 if match[2] == "ms" else int(match[1]) * UNITS[match[2]]


def rounded(interval: float) -> float:
    """The round interval that is nearest to one in seconds."""
    return min(ROUND, key=lambda candidate: abs(candidate - interval))


def written(interval: float) -> str:
    """An interval in seconds as Grafana writes it."""
    for unit in ("d", "h", "m", "s"):
        if interval >= UNITS[unit]:
            return f"{interval / UNITS[unit]:g}{unit}"
    return f"{interval * 1000:g}ms"


def whole_minutes(moment: datetime) -> datetime:
    return moment - timedelta(seconds=moment.second, microseconds=moment.microsecond)
