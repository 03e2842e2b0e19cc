"""Pages of reference that are made of the code, when the documentation is built: the routes and the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.dialects import postgresql

METHODS = ("get", "post", "delete")


def routes(document: Mapping[str, Any]) -> str:
    """Every route of an OpenAPI document, as Markdown: what it does, its parameters, its answers."""
    lines = [
        "# Routes",
        "",
        "Made from `/openapi.json`, which a running service has, too, and `/docs` shows with examples.",
        "",
    ]
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                lines += [f"## {method.upper()} {path}", "", *_operation(methods[method], document)]
    return "\n".join(lines)


def _operation(operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    for text in ("summary", "description"):
        if operation.get(text):
            yield from (operation[text], "")
    parameters = [_resolved(each, document) for each in operation.get("parameters", [])]
    if parameters:
        yield from ("| parameter | in | type | default | meaning |", "|---|---|---|---|---|")
        for each in parameters:
            yield _row(f"`{each['name']}`", each["in"], *_schema(each.get("schema", {})), each.get("description", ""))
        yield ""
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        yield from (f"Body: {', '.join(f'`{kind}`' for kind in content)}.", "")
    yield from ("| answer | |", "|---|---|")
    for status, answer in sorted(operation["responses"].items()):
        if status != "default":
            yield _row(status, _resolved(answer, document).get("description", ""))
    yield ""


def _resolved(part: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part itself, or what its `$ref` leads to in the document."""
    found = part
    if "$ref" in part:
        found = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    return found


def _schema(schema: Mapping[str, Any]) -> tuple[str, str]:
    """Type and default, as they are shown."""
    kind = schema.get("type", "")
    if kind == "array":
        kind = f"{schema['items'].get('type', '')}, several"
    choices = ", ".join(f"`{choice}`" for choice in schema.get("enum", []))
    return choices or str(kind), f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def tables(metadata: MetaData) -> str:
    """Every table, as Markdown: its columns, their types, and its keys."""
    lines = [
        "# Tables", "",
        "Made from `app/infrastructure/tables.py`. Beside these there are the aggregates that the migrations make, by "
        "minute, hour and day: `prediction_stats_…`, `prediction_latency_…` and `prediction_dropped_…`. "
        "[Read it with SQL](../sql.md) has their columns.", "",
    ]  # fmt: skip
    for table in metadata.sorted_tables:
        lines += [f"## {table.name}", "", *_columns(table), ""]
    return "\n".join(lines)


def _columns(table: Table) -> Iterator[str]:
    if table.comment:
        yield from (table.comment, "")
    yield from ("| column | type | may be null | key |", "|---|---|---|---|")
    for column in table.columns:
        kind = column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]
        references = ", ".join(f"→ `{key.target_fullname}`" for key in column.foreign_keys)
        key = ", ".join(filter(None, ("primary" if column.primary_key else "", references)))
        yield _row(f"`{column.name}`", kind.lower(), "yes" if column.nullable else "", key)


def _row(*cells: object) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"
