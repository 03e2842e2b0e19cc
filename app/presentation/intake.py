"""The common part of all endpoints that take many predictions: limits, keys, reports of drops, and the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import current_app, request

from app.application.predictions import Batch, Receipt
from app.presentation.batch_decoder import Models
from app.presentation.errors import overloaded
from app.presentation.instruments import meters
from app.presentation.middleware.authentication import models
from app.presentation.middleware.rate_limit import caller
from app.presentation.middleware.request_body import Body, read_body
from app.presentation.schemas.dropped_header import read_dropped
from app.presentation.services import services

BATCH_PERMITS = "predlog.batch_permits"


class BatchPermits:
    """Limits how many batches a worker handles at once; each keeps a processor and a database connection busy."""

    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a permit for as long as the block lasts. Answers 503 with Retry-After if none is free."""
        if not self._free.acquire(blocking=False):
            overloaded("batches", "As many batches as the service takes at once are under way; send this one again.")
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True)
class Taken:
    """The receipt of a request, and how many of its reports were left out because the key may not log their models."""

    receipt: Receipt
    left_out: int


def take(read: Callable[[Body, Models], Batch], log: Callable[[Batch], Receipt] | None = None) -> Taken:
    """Read the request's body, decode its predictions with `read`, and store them, or let `log` do so.

    `read` gets the body and the models that the caller may log. Answers with the errors of the batch endpoint.
    """
    allowed = models()
    # Reports of models that the key may not log are left out, because an error would block the predictions for good.
    reports = read_dropped(request.headers)
    dropped = [report for report in reports if allowed is None or report.model_name in allowed]
    permits: BatchPermits = current_app.extensions[BATCH_PERMITS]
    body = read_body(request, current_app.config["MAX_CONTENT_LENGTH"])
    with permits.take():
        new_models = services().new_models
        admitted = new_models.admit(caller(), read(body, allowed))
        dropped = new_models.admit_reports(caller(), dropped, admitted)
        receipt = (log or services().predictions.log_batch)(admitted.with_dropped(dropped))
    meters().batch(receipt, dropped)
    return Taken(receipt, len(reports) - len(dropped))
