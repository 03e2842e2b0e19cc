"""Predictions out of the standard library's logging: a line that carries a prediction's fields is one."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from predlog.client import Client

EXTRA = "predlog"


class Handler(logging.Handler):
    """Logs the lines that have `extra={"predlog": {...}}` with the arguments of `Client.log`; others are left alone.

    A line with an exception is a failure; so is one of level ERROR or above, with its message as the error. model_name
    and duration_ms must be there: `logger.info("done", extra={"predlog": {"model_name": "m", "duration_ms": 12.5}})`.
    """

    def __init__(self, log: Client, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log the prediction, if the line is about one."""
        given = getattr(record, EXTRA, None)
        if not isinstance(given, Mapping):
            return
        try:
            fields = {"timestamp": None, **given}
            raised = record.exc_info[1] if record.exc_info else None
            failed = raised is not None or record.levelno >= logging.ERROR
            if failed and fields.get("error") is None:
                fields["error"] = raised if raised is not None else record.getMessage()
            fields.setdefault("was_successful", fields.get("error") is None)
            self._log.log(**fields)
        except Exception:
            self.handleError(record)
