"""Properties are no stopwatch: on a busy machine a first example may take long."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    max_examples=int(os.environ.get("EXAMPLES", "100")),  # fewer in `make test-quick`
)
settings.load_profile("patient")
