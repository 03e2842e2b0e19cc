"""What mypy cannot know about the tests: the JSON of an answer is there, or the test fails."""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import AttributeContext, Plugin
from mypy.types import AnyType, Instance, Type, TypeOfAny, get_proper_type

RESPONSE = "werkzeug.test.TestResponse"


class TestsPlugin(Plugin):
    """Take `response.json` of a test's client for Any, instead of for Any or None."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Return what tells the type of an attribute."""
        return _json if fullname.startswith("werkzeug.") and fullname.endswith(".json") else None


def _json(context: AttributeContext) -> Type:
    response = get_proper_type(context.type)
    if isinstance(response, Instance) and any(base.fullname == RESPONSE for base in response.type.mro):
        return AnyType(TypeOfAny.explicit)
    return context.default_attr_type


def plugin(version: str) -> type[Plugin]:
    """Called by mypy."""
    return TestsPlugin
