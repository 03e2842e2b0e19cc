"""The errors of the domain; presentation/errors.py maps each to an HTTP status."""

from __future__ import annotations

from datetime import datetime


class PredlogError(Exception):
    """Base of every error that Predlog raises on purpose; its text is meant for the caller."""


class InvalidInput(PredlogError):
    """A value that the caller sent cannot be used; `field` names it as the caller spells it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class BehindRetention(PredlogError):
    """A prediction is from before `edge`, and retention has dropped the log before that time."""

    field = "timestamp"

    def __init__(self, edge: datetime) -> None:
        self.edge = edge
        self.message = f"Must not be before {edge.isoformat()}: older predictions are not kept any more."
        super().__init__(f"timestamp: {self.message}")


class DroppedBehindRetention(PredlogError):
    """A report is from before `edge`, and retention has dropped the counts before that time."""

    def __init__(self, edge: datetime) -> None:
        super().__init__(f"What was dropped before {edge.isoformat()} is not counted any more.")


class RequestIdConflict(PredlogError):
    """A prediction of another model has this request id and timestamp; the error tells nothing of that prediction."""

    field = "request_id"
    message = "A prediction of another model has this request_id and timestamp: nothing was stored."

    def __init__(self) -> None:
        super().__init__(f"request_id: {self.message}")


class TooManyNewModels(PredlogError):
    """A caller has logged as many new models and versions as it may in a day."""

    field = "model_name"

    def __init__(self, per_day: int) -> None:
        self.message = (
            f"This caller may log {per_day} new models and versions a day, and has done so. Models and versions that "
            "are known are taken. If each prediction has a name or version of its own, put what differs into the "
            "metadata."
        )
        super().__init__(f"model_name: {self.message}")


class NotFound(PredlogError):
    """The requested thing does not exist."""


class NotAuthenticated(PredlogError):
    """The request carries no valid API key."""


class NotAllowed(PredlogError):
    """The caller may not do this."""


class RateLimited(PredlogError):
    """The caller has used up its allowance; its next request is allowed in `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many calls; send this one again after the seconds in Retry-After.")
        self.wait_s = wait_s


class TooManyFailures(RateLimited):
    """The caller's address sent too many requests without a valid key; clients without a key read the text, too."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.args = ("Too many calls without a valid key came from this address; send one with a valid key.",)


class StorageUnavailable(PredlogError):
    """The database cannot be reached, or cannot answer now; the same request may succeed later."""


class LockTimeout(StorageUnavailable):
    """A statement waited too long for a lock, which a replica may have from the primary: the primary may answer."""


class StorageBusy(StorageUnavailable):
    """The database is there, but had no time for this request; to ask another server would not help."""


class StorageTimeout(StorageBusy):
    """A statement took longer than its timeout."""


class NotReady(PredlogError):
    """The service runs but must not get traffic: not migrated, or about to stop."""
