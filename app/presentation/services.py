"""The use cases, for the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from app.application.alerts import Alerts
from app.application.database_stats import Watch
from app.application.dropped import Dropped
from app.application.halves import JoinedPredictions
from app.application.health import Readiness
from app.application.keys import Keys
from app.application.new_models import NewModels
from app.application.predictions import Predictions
from app.application.purge import Purge
from app.application.replica_routing import Readers

EXTENSION = "predlog"


@dataclass(frozen=True)
class Services:
    """The use cases of one application; questions about many predictions go to the readers."""

    predictions: Predictions
    joined_predictions: JoinedPredictions
    dropped: Dropped
    readers: Readers
    readiness: Readiness
    keys: Keys
    watch: Watch
    new_models: NewModels
    purge: Purge
    alerts: Alerts | None = None


def services() -> Services:
    """The use cases of the application that handles this request."""
    return cast(Services, current_app.extensions[EXTENSION])
