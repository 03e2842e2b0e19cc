"""Fixtures that hold for a session."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def session_fixtures(module: Path) -> Iterator[str]:
    """The names of the fixtures that this module makes for a whole session."""
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef) and any(_is_of_session(decorator) for decorator in node.decorator_list):
            yield node.name


def _is_of_session(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and any(
        keyword.arg == "scope" and ast.literal_eval(keyword.value) == "session" for keyword in decorator.keywords
    )


def test_no_module_replaces_a_session_fixture_of_all_tests() -> None:
    """pytest would keep what depends on the replacement, and give it to tests of other modules on the other engine."""
    of_all = set(session_fixtures(TESTS / "conftest.py"))
    assert "server" in of_all
    others = [module for module in TESTS.rglob("*.py") if module != TESTS / "conftest.py"]
    assert {module.name: of_all.intersection(session_fixtures(module)) for module in others} == {
        module.name: set() for module in others
    }
