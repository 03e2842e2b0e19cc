"""What became of the records of a batch, as JSON."""

from __future__ import annotations

import marshmallow as ma


class RejectedSchema(ma.Schema):
    """A record that was not stored: its index in the batch, and its errors."""

    index = ma.fields.Integer(required=True)
    errors = ma.fields.Dict(required=True)


class ReceiptSchema(ma.Schema):
    """The result of a batch."""

    stored = ma.fields.Integer(required=True, metadata={"description": "Records that are committed now."})
    duplicates = ma.fields.Integer(required=True, metadata={"description": "Records that had been stored before."})
    rejected = ma.fields.List(ma.fields.Nested(RejectedSchema), required=True)
