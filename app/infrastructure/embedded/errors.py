from __future__ import annotations


class EmbeddedPostgresError(RuntimeError):
    """The embedded server cannot run; the text tells the operator why and what to do."""
