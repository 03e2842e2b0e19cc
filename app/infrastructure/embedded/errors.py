from __future__ import annotations


class EmbeddedPostgresError(RuntimeError):
    """Why the embedded server cannot run and what to do about it, in a sentence for the operator."""
