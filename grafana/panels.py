"""The dashboards' parts as Grafana's JSON model has them: panels, variables, and how they are laid out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]

DATA_SOURCE = {"type": "grafana-postgresql-datasource", "uid": "predlog"}
WIDTH = 24
# At most, of a series: enough to see what happens, and percentiles are computed for each.
POINTS = 120

# One colour, one meaning, on every panel.
PREDICTIONS = "semi-dark-blue"
FAILURES = "semi-dark-red"
DROPPED = "semi-dark-orange"
LATENCIES = {"p50": "light-purple", "p95": "purple", "p99": "dark-purple"}
GOOD, WARNING, BAD = "green", "orange", FAILURES


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Json], rows: Iterable[Sequence[Json]]
) -> Json:
    """A dashboard; each row of panels is as high as its highest, and they stand side by side."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["predlog"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "timepicker": {"refresh_intervals": ["30s", "1m", "5m", "15m", "1h"]},
        "links": [
            {
                "title": "Predlog", "type": "dashboards", "tags": ["predlog"], "asDropdown": True, "keepTime": True,
                "includeVars": False, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
            }
        ],
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "panels": _laid_out(rows),
    }  # fmt: skip


def _laid_out(rows: Iterable[Sequence[Json]]) -> list[Json]:
    panels: list[Json] = []
    top = 0
    for row in rows:
        left = 0
        for panel in row:
            size = panel["gridPos"]
            panels.append({"id": len(panels) + 1, **panel, "gridPos": {"x": left, "y": top, **size}})
            left += size["w"]
        assert left == WIDTH, f"the row of {row[0]['title']} is {left} wide"
        top += max(panel["gridPos"]["h"] for panel in row)
    return panels


def heading(title: str) -> list[Json]:
    """A row that names the panels below it."""
    return [{"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}, "panels": []}]


# --- variables --------------------------------------------------------------------------------------------------------


def query_variable(name: str, sql: str, label: str = "", multi: bool = False, hidden: bool = False) -> Json:
    """A variable whose values come from the database, anew whenever the range of time changes."""
    variable: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "hide": 2 if hidden else 0,
        "skipUrlSync": hidden,
        "datasource": DATA_SOURCE,
        "query": sql.strip(),
        "refresh": 2,
        "regex": "",
        "sort": 0,
        "multi": multi,
        "includeAll": multi,
        "options": [],
        "current": {"text": ["All"], "value": ["$__all"]} if multi else {"text": "", "value": ""},
    }
    return variable


def choice(name: str, label: str, values: Sequence[str], default: str) -> Json:
    """A variable with a fixed list of values."""
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "hide": 0,
        "query": ",".join(values),
        "multi": False,
        "includeAll": False,
        "options": [{"text": value, "value": value, "selected": value == default} for value in values],
        "current": {"text": default, "value": default, "selected": True},
    }


def number(name: str, label: str, default: str) -> Json:
    """A variable whose value is typed."""
    chosen = {"text": default, "value": default, "selected": True}
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "hide": 0,
        "query": default,
        "options": [chosen],
        "current": chosen,
    }


# --- panels -----------------------------------------------------------------------------------------------------------


def _panel(kind: str, title: str, sql: str, width: int, height: int, description: str, **rest: Any) -> Json:
    series = rest.pop("series", False)
    target = {
        "refId": "A",
        "datasource": DATA_SOURCE,
        "format": "time_series" if series else "table",
        "rawQuery": True,
        "editorMode": "code",
        "rawSql": sql.strip(),
    }
    over_time = {"interval": "$step", "maxDataPoints": POINTS} if series else {}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATA_SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": [target],
        **over_time,
        **rest,
    }


def _thresholds(*steps: tuple[float | None, str]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


HIGHER_IS_WORSE = (GOOD, WARNING, BAD)
LOWER_IS_WORSE = (BAD, WARNING, GOOD)


def levels(first: float, second: float, colors: tuple[str, str, str] = HIGHER_IS_WORSE) -> Json:
    """Thresholds: one colour below `first`, the next from there, the third from `second`."""
    return _thresholds((None, colors[0]), (first, colors[1]), (second, colors[2]))


def _by_name(name: str, **properties: Any) -> Json:
    """The settings of one column or series; `custom_x` stands for `custom.x`."""
    pairs = [{"id": id.replace("custom_", "custom."), "value": value} for id, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": pairs}


def _fixed(color: str) -> Json:
    return {"mode": "fixed", "fixedColor": color}


def stat(
    title: str,
    sql: str,
    width: int,
    description: str,
    unit: str,
    thresholds: Json | None = None,
    decimals: int | None = None,
    columns: dict[str, Json] | None = None,
) -> Json:
    """One figure, or a few beside each other; coloured by the thresholds if there are any."""
    plain = _thresholds((None, "text"))
    defaults: Json = {"unit": unit, "thresholds": thresholds or plain, "color": {"mode": "thresholds"}}
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
        "wideLayout": True,
    }
    overrides = [_by_name(name, **column) for name, column in (columns or {}).items()]
    field_config = {"defaults": defaults, "overrides": overrides}
    return _panel("stat", title, sql, width, 4, description, options=options, fieldConfig=field_config)


def time_series(
    title: str,
    sql: str,
    width: int,
    description: str,
    unit: str,
    colors: dict[str, str] | None = None,
    bars: bool = False,
    maximum: float | None = None,
) -> Json:
    """Lines over time, or stacked bars; `colors` are those of series with a fixed name."""
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic-by-name"},
        "custom": {
            "drawStyle": "bars" if bars else "line",
            "lineWidth": 0 if bars else 2,
            "fillOpacity": 80 if bars else 8,
            "showPoints": "never" if bars else "auto",
            "spanNulls": False,
            "lineInterpolation": "linear",
            "stacking": {"mode": "normal" if bars else "none", "group": "A"},
        },
    }
    if maximum is not None:
        defaults["max"] = maximum
    options = {
        "legend": {
            "showLegend": True,
            "displayMode": "table",
            "placement": "bottom",
            "calcs": ["sum"] if bars else ["mean", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    overrides = [_by_name(name, color=_fixed(color)) for name, color in (colors or {}).items()]
    field_config = {"defaults": defaults, "overrides": overrides}
    return _panel(
        "timeseries", title, sql, width, 9, description, series=True, options=options, fieldConfig=field_config
    )


def heat_map(title: str, sql: str, width: int, description: str) -> Json:
    """Columns of time, rows of duration (ms, named by their upper edge), coloured by the number of predictions."""
    options = {
        "calculate": False,
        "rowsFrame": {"layout": "le", "value": "Predictions"},
        "cellGap": 1,
        "cellValues": {"unit": "short", "decimals": 0},
        "color": {
            "mode": "scheme", "scheme": "Purples", "steps": 64, "reverse": False, "fill": PREDICTIONS,
            "scale": "exponential", "exponent": 0.5,
        },
        "exemplars": {"color": FAILURES},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "unit": "ms", "decimals": 2, "reverse": False},
    }  # fmt: skip
    fields: Json = {"defaults": {"custom": {"scaleDistribution": {"type": "linear"}}}, "overrides": []}
    return _panel("heatmap", title, sql, width, 10, description, series=True, options=options, fieldConfig=fields)


def bars(title: str, sql: str, width: int, height: int, description: str, x_field: str) -> Json:
    """A bar for each row, named by the column `x_field`."""
    options: Json = {
        "xField": x_field,
        "orientation": "vertical",
        "xTickLabelRotation": 0,
        "xTickLabelSpacing": 100,
        "showValue": "never",
        "stacking": "none",
        "groupWidth": 0.7,
        "barWidth": 0.97,
        "barRadius": 0,
        "fullHighlight": False,
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    defaults: Json = {
        "unit": "short",
        "min": 0,
        "color": _fixed(PREDICTIONS),
        "custom": {"lineWidth": 0, "fillOpacity": 80, "gradientMode": "none", "axisPlacement": "auto"},
    }
    field_config: Json = {"defaults": defaults, "overrides": []}
    return _panel("barchart", title, sql, width, height, description, options=options, fieldConfig=field_config)


def table(title: str, sql: str, width: int, height: int, description: str, columns: dict[str, Json]) -> Json:
    """Rows and columns; `columns` has the settings of some of them."""
    options: Json = {"showHeader": True, "cellHeight": "sm"}
    defaults: Json = {
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
        "thresholds": _thresholds((None, "text")),
    }
    field_config = {"defaults": defaults, "overrides": [_by_name(name, **column) for name, column in columns.items()]}
    return _panel("table", title, sql, width, height, description, options=options, fieldConfig=field_config)


# --- columns of tables ------------------------------------------------------------------------------------------------

WHOLE = {"unit": "locale"}
MILLISECONDS = {"unit": "ms", "decimals": 1}
MOMENT = {"unit": "dateTimeAsLocal"}
AGO = {"unit": "dateTimeFromNow"}


def share(thresholds: Json | None = None) -> Json:
    """A column with a share of 1 in per cent, coloured by thresholds if there are any."""
    column: Json = {"unit": "percentunit", "decimals": 2}
    if thresholds:
        column |= {"thresholds": thresholds, "custom_cellOptions": {"type": "color-text"}}
        column |= {"color": {"mode": "thresholds"}}
    return column
