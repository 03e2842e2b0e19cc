"""The SQL of the panels. Rows are counted from the aggregates; raw rows are read only to list single calls.

A range of time is covered as the service covers it: whole days from the day level, whole hours beside them, minutes
at both ends. Hidden variables of the dashboard hold the three seams as literals, so that chunks are left out while
a query is planned:

    $__timeFrom()    $hours_from      $days_from     $days_to       $hours_to     $__timeTo()
         |  minutes       |    hours       |    days     |     hours     |   minutes   |

`$step` is the coarsest level in use (1m, 1h or 1d): no point of a series can be shorter.
"""

from __future__ import annotations

MODELS = "model_name = ANY (ARRAY[${model:sqlstring}]::text[])"
ONE_MODEL = "model_name = ${model:sqlstring}"
NO_VERSION = "(none)"
VERSION = f"coalesce(nullif(model_version, ''), '{NO_VERSION}')"
ONE_MODEL_VERSIONS = f"{ONE_MODEL}\n  AND  {VERSION} = ANY (ARRAY[${{version:sqlstring}}]::text[])"
FAILED = "total_requests - successful_requests"


def _cover(family: str) -> str:
    parts = (
        ("minute", "$__timeFrom()", "'$hours_from'"),
        ("hour", "'$hours_from'", "'$days_from'"),
        ("day", "'$days_from'", "'$days_to'"),
        ("hour", "'$days_to'", "'$hours_to'"),
        ("minute", "'$hours_to'", "$__timeTo()"),
    )
    selects = [
        f"SELECT * FROM prediction_{family + '_' + level:<14} WHERE bucket >= {start:<13} AND bucket < {end}"
        for level, start, end in parts
    ]
    return "(\n    " + "\n    UNION ALL\n    ".join(selects) + f"\n) AS {family}"


STATS = _cover("stats")
LATENCY = _cover("latency")


# --- variables ---------------------------------------------------------------------------------------------------------

STEP = """
SELECT CASE WHEN $__timeTo()::timestamptz - $__timeFrom() > INTERVAL '60 days' OR $__timeFrom() < hour_from   THEN '1d'
            WHEN $__timeTo()::timestamptz - $__timeFrom() > INTERVAL '2 days'  OR $__timeFrom() < minute_from THEN '1h'
            ELSE '1m'
       END
FROM   prediction_stats_state
"""

HOURS_FROM = """
SELECT CASE '$step'
       WHEN '1m' THEN $__timeTo()::timestamptz
       ELSE least($__timeTo(), date_trunc('hour', $__timeFrom()::timestamptz + INTERVAL '59:59.999999', 'UTC'))
       END::text
"""

HOURS_TO = """
SELECT greatest('$hours_from', date_trunc('hour', least($__timeTo(), materialized_to), 'UTC'))::text
FROM   prediction_stats_state
"""

DAYS_FROM = """
SELECT CASE '$step'
       WHEN '1d' THEN least('$hours_to', date_trunc('day', $__timeFrom()::timestamptz + INTERVAL '23:59:59.999999', 'UTC'))
       ELSE '$hours_to'
       END::text
"""

DAYS_TO = """
SELECT greatest('$days_from', date_trunc('day', least($__timeTo(), materialized_to), 'UTC'))::text
FROM   prediction_stats_state
"""

MODEL_NAMES = f"""
SELECT DISTINCT model_name
FROM   {STATS}
ORDER  BY 1
"""

VERSION_NAMES = f"""
SELECT DISTINCT {VERSION} AS version
FROM   {STATS}
WHERE  {ONE_MODEL}
ORDER  BY 1
"""


# --- counts ------------------------------------------------------------------------------------------------------------


def calls(where: str) -> str:
    """How many calls there were."""
    return f"""
SELECT coalesce(sum(total_requests), 0) AS "Calls"
FROM   {STATS}
WHERE  {where}
"""


def error_rate(where: str) -> str:
    """The share of calls that failed; null without calls."""
    return f"""
SELECT sum({FAILED}) / nullif(sum(total_requests), 0) AS "Error rate"
FROM   {STATS}
WHERE  {where}
"""


def extremes(where: str) -> str:
    """The mean duration, and the longest."""
    return f"""
SELECT sum(duration_ms_sum) / nullif(sum(total_requests), 0) AS "Mean",
       max(duration_ms_max)                                  AS "Longest"
FROM   {STATS}
WHERE  {where}
"""


def outcomes_over_time(where: str) -> str:
    """Calls that succeeded and calls that failed, by point of time."""
    return f"""
SELECT $__timeGroupAlias(bucket, $__interval),
       sum(successful_requests)                  AS "Succeeded",
       sum({FAILED}) AS "Failed"
FROM   {STATS}
WHERE  {where}
GROUP  BY 1
ORDER  BY 1
"""


def calls_over_time(where: str, series: str) -> str:
    """Calls by point of time, one series for each value of an expression."""
    return f"""
SELECT $__timeGroupAlias(bucket, $__interval),
       {series} AS metric,
       sum(total_requests) AS value
FROM   {STATS}
WHERE  {where}
GROUP  BY 1, 2
ORDER  BY 1, 2
"""


def error_rate_over_time(where: str, series: str) -> str:
    """The share of calls that failed, by point of time, one series for each value of an expression."""
    return f"""
SELECT $__timeGroupAlias(bucket, $__interval),
       {series} AS metric,
       sum({FAILED}) / sum(total_requests) AS value
FROM   {STATS}
WHERE  {where}
GROUP  BY 1, 2
ORDER  BY 1, 2
"""


# --- percentiles -------------------------------------------------------------------------------------------------------


def _sketch(key: str, expression: str, where: str) -> str:
    """Two tables: `sketch`, the calls in each bin, and `ranked`, with the rank that each bin's last call has.

    A percentile is PostgreSQL's percentile_cont: rank p * (calls - 1), counted from 0; where that falls behind the
    last call of a bin it is interpolated with the next bin. Each bin is within 1 % of all that fell into it.
    """
    partition = f"PARTITION BY {key}" if key else ""
    return f"""
WITH sketch AS (
    SELECT {expression + "," if key else ""}
           bin,
           sum(calls) AS calls
    FROM   {LATENCY.replace(chr(10), chr(10) + "    ")}
    WHERE  {where.replace(chr(10), chr(10) + "    ")}
    GROUP  BY {"1, 2" if key else "1"}
), ranked AS (
    SELECT {key + "," if key else ""}
           latency_of_bin(bin)                                                   AS ms,
           coalesce(lead(latency_of_bin(bin)) OVER up - latency_of_bin(bin), 0)  AS to_next,
           sum(calls) OVER up                                                    AS up_to,
           sum(calls) OVER ({partition}) - 1 AS last
    FROM   sketch
    WINDOW up AS ({(partition + " ORDER BY bin").strip()})
)""".replace("SELECT \n           ", "SELECT ")


def _percentile(percent: int) -> str:
    p = f"{percent / 100:.2f}"
    return f"min(ms + greatest({p} * last - up_to + 1, 0) * to_next) FILTER (WHERE up_to > {p} * last)"


PERCENTILES = ",\n       ".join(f'{_percentile(percent)} AS "p{percent}"' for percent in (50, 95, 99))


def percentiles(where: str) -> str:
    """p50, p95 and p99 of the duration."""
    return f"""{_sketch("", "", where)}
SELECT {PERCENTILES}
FROM   ranked
"""


def percentiles_over_time(where: str) -> str:
    """p50, p95 and p99 by point of time."""
    return f"""{_sketch("time", "$__timeGroupAlias(bucket, $__interval)", where)}
SELECT time,
       {PERCENTILES}
FROM   ranked
GROUP  BY time
ORDER  BY time
"""


def p95_over_time(where: str, series: str) -> str:
    """p95 by point of time, one series for each value of an expression."""
    keys = f"$__timeGroupAlias(bucket, $__interval),\n           {series} AS metric"
    sketch = _sketch("time, metric", keys, where).replace("GROUP  BY 1, 2", "GROUP  BY 1, 2, 3")
    return f"""{sketch}
SELECT time,
       metric,
       {_percentile(95)} AS value
FROM   ranked
GROUP  BY time, metric
ORDER  BY time, metric
"""


def heat_map(where: str) -> str:
    """Calls by point of time and duration, ten rows to a power of ten; each row is named by its upper edge in ms."""
    return f"""
WITH cells AS (
    SELECT $__timeGroupAlias(bucket, $__interval),
           ceil(10 * log(greatest(latency_of_bin(bin), 0.01)))::integer AS edge,
           sum(calls)                                                   AS calls
    FROM   {LATENCY.replace(chr(10), chr(10) + "    ")}
    WHERE  {where.replace(chr(10), chr(10) + "    ")}
    GROUP  BY 1, 2
), edges AS (
    SELECT generate_series(min(edge), max(edge)) AS edge FROM cells
)
SELECT time,
       round(power(10, edge / 10.0), 2)::text AS metric,
       coalesce(calls, 0)                     AS value
FROM   (SELECT DISTINCT time FROM cells) AS times
CROSS  JOIN edges
LEFT   JOIN cells USING (time, edge)
ORDER  BY time, edge
"""


# --- tables ------------------------------------------------------------------------------------------------------------

MODELS_TABLE = f"""{_sketch("model_name", "model_name", MODELS)}, percentiles AS (
    SELECT model_name,
           {PERCENTILES.replace(chr(10), chr(10) + "    ")}
    FROM   ranked
    GROUP  BY model_name
), counts AS (
    SELECT model_name,
           sum(total_requests)                       AS calls,
           sum({FAILED}) AS failed,
           max(bucket)                               AS last_call
    FROM   {STATS.replace(chr(10), chr(10) + "    ")}
    WHERE  {MODELS}
    GROUP  BY model_name
), losses AS (
    SELECT model_name,
           sum(count) AS dropped
    FROM   prediction_loss
    WHERE  timestamp >= $__timeFrom() AND timestamp < $__timeTo()
      AND  {MODELS}
    GROUP  BY model_name
)
SELECT model_name                                       AS "Model",
       coalesce(calls, 0)                               AS "Calls",
       failed / calls                                   AS "Error rate",
       "p50",
       "p95",
       "p99",
       coalesce(dropped, 0)                             AS "Dropped",
       coalesce(calls, 0) / (coalesce(calls, 0) + coalesce(dropped, 0)) AS "Completeness",
       last_call                                        AS "Last call"
FROM   counts
LEFT   JOIN percentiles USING (model_name)
FULL   JOIN losses      USING (model_name)
ORDER  BY 2 DESC, 1
"""

VERSIONS_TABLE = f"""{_sketch("version", f"{VERSION} AS version", ONE_MODEL_VERSIONS)}, percentiles AS (
    SELECT version,
           {PERCENTILES.replace(chr(10), chr(10) + "    ")}
    FROM   ranked
    GROUP  BY version
), counts AS (
    SELECT {VERSION} AS version,
           sum(total_requests)                       AS calls,
           sum({FAILED}) AS failed,
           sum(duration_ms_sum)                      AS duration_ms,
           min(bucket)                               AS first_call,
           max(bucket)                               AS last_call
    FROM   {STATS.replace(chr(10), chr(10) + "    ")}
    WHERE  {ONE_MODEL_VERSIONS.replace(chr(10), chr(10) + "    ")}
    GROUP  BY 1
)
SELECT version                     AS "Version",
       calls                       AS "Calls",
       calls / sum(calls) OVER ()  AS "Share",
       failed / calls              AS "Error rate",
       duration_ms / calls         AS "Mean",
       "p50",
       "p95",
       "p99",
       first_call                  AS "First call",
       last_call                   AS "Last call"
FROM   counts
JOIN   percentiles USING (version)
ORDER  BY calls DESC, version
"""

# The 20 slowest calls lie in the 20 minutes with the highest maximum: only those are read raw.
SLOWEST_CALLS = f"""
WITH minutes AS (
    SELECT bucket
    FROM   prediction_stats_minute
    WHERE  bucket >= $__timeFrom() AND bucket < $__timeTo()
      AND  {ONE_MODEL_VERSIONS.replace(chr(10), chr(10) + "    ")}
    GROUP  BY bucket
    ORDER  BY max(duration_ms_max) DESC
    LIMIT  20
)
SELECT call.timestamp      AS "Time",
       call.duration_ms    AS "Duration",
       {VERSION.replace("model_version", "call.model_version")} AS "Version",
       CASE WHEN call.was_successful THEN 'succeeded' ELSE 'failed' END AS "Outcome",
       call.error          AS "Error",
       call.id::text       AS "Id"
FROM   minutes
CROSS  JOIN LATERAL (
    SELECT *
    FROM   prediction_log
    WHERE  timestamp >= minutes.bucket AND timestamp < minutes.bucket + INTERVAL '1 minute'
      AND  timestamp >= $__timeFrom()  AND timestamp < $__timeTo()
      AND  {ONE_MODEL_VERSIONS.replace(chr(10), chr(10) + "    ")}
    ORDER  BY duration_ms DESC
    LIMIT  20
) AS call
ORDER  BY call.duration_ms DESC, call.id
LIMIT  20
"""

# The 50 latest failures lie in the 50 latest minutes that have any: only those are read raw.
FAILED_CALLS = f"""
WITH minutes AS (
    SELECT bucket
    FROM   prediction_stats_minute
    WHERE  bucket >= $__timeFrom() AND bucket < $__timeTo()
      AND  {ONE_MODEL_VERSIONS.replace(chr(10), chr(10) + "    ")}
      AND  total_requests > successful_requests
    GROUP  BY bucket
    ORDER  BY bucket DESC
    LIMIT  50
)
SELECT call.timestamp      AS "Time",
       call.error          AS "Error",
       {VERSION.replace("model_version", "call.model_version")} AS "Version",
       call.duration_ms    AS "Duration",
       call.id::text       AS "Id"
FROM   minutes
CROSS  JOIN LATERAL (
    SELECT *
    FROM   prediction_log
    WHERE  timestamp >= minutes.bucket AND timestamp < minutes.bucket + INTERVAL '1 minute'
      AND  timestamp >= $__timeFrom()  AND timestamp < $__timeTo()
      AND  {ONE_MODEL_VERSIONS.replace(chr(10), chr(10) + "    ")}
      AND  NOT was_successful
    ORDER  BY timestamp DESC, id DESC
    LIMIT  50
) AS call
ORDER  BY call.timestamp DESC, call.id DESC
LIMIT  50
"""
