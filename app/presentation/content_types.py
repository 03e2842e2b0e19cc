"""Choose the format of an answer: `format=` overrides `Accept`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from flask import request
from marshmallow.validate import OneOf

from app.presentation.errors import problem

CSV = "csv"
CSV_TYPE = "text/csv"


def format_field(formats: Mapping[str, str]) -> ma.fields.String:
    """The query parameter `format`: one of these names."""
    names = ", ".join(f"`{name}`" for name in formats)
    return ma.fields.String(
        validate=OneOf(list(formats)),
        metadata={"description": f"{names}; it goes before the header `Accept`. Default: `{next(iter(formats))}`."},
    )


def negotiated(formats: Mapping[str, str], query: dict[str, Any]) -> str:
    """Return the name of the format of the answer, out of names and media types; the first one is the default.

    Takes `format` out of the query. Answers 406 if the caller accepts none of them.
    """
    if chosen := query.pop("format", None):
        return str(chosen)
    if not request.accept_mimetypes:
        return next(iter(formats))
    by_type = {media_type: name for name, media_type in formats.items()}
    best = request.accept_mimetypes.best_match(list(by_type))
    if best is None:
        problem(406, f"Accept must have one of {', '.join(by_type)}, or leave the choice with */*.")
    return by_type[best]


def accepts_gzip() -> bool:
    """Whether the caller can inflate an answer."""
    return request.accept_encodings.quality("gzip") > 0 and "gzip" in request.headers.get("Accept-Encoding", "")
