"""What can go wrong, in the words of the domain; presentation/errors.py maps each to an HTTP status."""

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
    """A call happened before `edge`, where retention has dropped the log."""

    field = "timestamp"

    def __init__(self, edge: datetime) -> None:
        self.edge = edge
        self.message = f"Must not be before {edge.isoformat()}: older calls are not kept any more."
        super().__init__(f"timestamp: {self.message}")


class DroppedBehindRetention(PredlogError):
    """A report is about a time of which retention has left nothing that it could be counted in."""

    def __init__(self, edge: datetime) -> None:
        super().__init__(f"What was dropped before {edge.isoformat()} is not counted any more.")


class RequestIdConflict(PredlogError):
    """A call of another model has this request id and timestamp; nothing of that call is told."""

    field = "request_id"
    message = "A call of another model has this request_id and timestamp: nothing was stored."

    def __init__(self) -> None:
        super().__init__(f"request_id: {self.message}")


class TooManyNewModels(PredlogError):
    """A caller has logged as many models and versions that were not known before as it may in a day."""

    field = "model_name"

    def __init__(self, per_day: int) -> None:
        self.message = (
            f"This caller may log {per_day} new models and versions a day, and has done so. Models and versions that "
            "are known are taken. If each call has a name or version of its own, put what differs into the metadata."
        )
        super().__init__(f"model_name: {self.message}")


class NotFound(PredlogError):
    """The thing asked for is not there."""


class NotAuthenticated(PredlogError):
    """The caller has not said who it is, in a way that can be checked."""


class NotAllowed(PredlogError):
    """The caller may not do this."""


class RateLimited(PredlogError):
    """The caller has used up its allowance; the next call is due in `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many calls; send this one again after the seconds in Retry-After.")
        self.wait_s = wait_s


class TooManyFailures(RateLimited):
    """From the caller's address came too many calls without a good key; the text is for who has none, either."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.args = ("Too many calls without a valid key came from this address; send one with a valid key.",)


class StorageUnavailable(PredlogError):
    """The database cannot be reached, or cannot answer now; the same call may succeed later."""


class StorageBusy(StorageUnavailable):
    """The database is there, but had no time for this call; it would be no help to put it to another server."""


class StorageTimeout(StorageBusy):
    """The database was not done with a statement in the time that it may take."""


class NotReady(PredlogError):
    """The service runs but must not get traffic: not migrated, or about to stop."""
