"""docs/sql.md: the columns of the aggregates that it lists are those of a migrated database, and its questions run."""

from __future__ import annotations

import re

from sqlalchemy import create_engine

from conftest import Server
from support.page import blocks
from support.service import ROOT

PAGE = ROOT / "docs" / "sql.md"
ROW = re.compile(r"^\| (?:`(\w+)_…`)? ?\| ([^|]+) \| `([a-z ]+)` \|", re.MULTILINE)
COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE  table_schema = current_schema() AND table_name ~ '^prediction_(stats|latency|dropped)_(minute|hour|day)$'
"""


def test_the_columns_on_the_page_are_those_of_the_aggregates(server: Server) -> None:
    listed, relation = set(), ""
    for name, columns, kind in ROW.findall(PAGE.read_text()):
        relation = name or relation
        for column in re.findall(r"`(\w+)`", columns):
            listed |= {(f"{relation}_{level}", column, kind) for level in ("minute", "hour", "day")}
    with create_engine(server.url).connect() as connection:
        assert listed == set(map(tuple, connection.exec_driver_sql(COLUMNS)))


def test_the_questions_on_the_page_run(server: Server) -> None:
    questions = [block.text for block in blocks(PAGE) if block.language == "sql"]
    assert questions
    with create_engine(server.url).connect() as connection:
        for question in questions:
            connection.exec_driver_sql(question)
