"""How a route finds what the service can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from app.application.catalogue import Catalogue
from app.application.comparison import Comparisons
from app.application.health import Readiness
from app.application.keys import Keys
from app.application.predictions import Predictions
from app.application.statistics import Statistics

EXTENSION = "predlog"


@dataclass(frozen=True)
class Services:
    """The use cases of one application."""

    predictions: Predictions
    statistics: Statistics
    comparisons: Comparisons
    catalogue: Catalogue
    readiness: Readiness
    keys: Keys


def services() -> Services:
    """The use cases of the application that handles this request."""
    return cast(Services, current_app.extensions[EXTENSION])
