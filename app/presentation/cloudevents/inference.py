"""Turn an event of an inference logger into half of a prediction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from app.application.halves import Side
from app.presentation.cloudevents.decoder import Event

# Both halves of a prediction have the same request id, whenever they are sent.
NAMESPACE = UUID("2c4e5eef-9324-48a4-8e8c-b852da30574c")
SIDES = {
    f"{prefix}.inference.{side.value}": side
    for prefix in ("org.kubeflow.serving", "io.seldon.serving")
    for side in Side
}
# Seldon gives each event an id of its own, and both of a prediction the same requestid.
SHARED_IDS = ("requestid", "id")
# A transformer and a predictor of one service each log the same prediction.
COMPONENT = "component"


@dataclass(frozen=True)
class EventMapping:
    """The attributes that make the model's name (joined by /) and its version, and those that are kept as metadata."""

    models: tuple[str, ...]
    versions: tuple[str, ...]
    metadata: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of all attributes that are read."""
        return frozenset(("type", "time", COMPONENT, *SHARED_IDS, *self.models, *self.versions, *self.metadata))

    def record(self, event: Event) -> dict[str, Any]:
        """Return the half of a prediction as a record of a batch, not checked yet; its time is that of the event."""
        shared_id = next((event[name] for name in SHARED_IDS if name in event), None)
        version = next((event[name] for name in self.versions if name in event), None)
        record: dict[str, Any] = {
            "model_version": version,
            "timestamp": event.get("time"),
            "duration_ms": 0,
            "was_successful": True,
            "metadata": {name: event[name] for name in self.metadata if name in event},
            "request_id": "",
        }
        if name := "/".join(event[name] for name in self.models if name in event):
            record["model_name"] = name
        if shared_id:
            parts = [name, version, event.get(COMPONENT), shared_id]
            record["request_id"] = str(uuid5(NAMESPACE, json.dumps(parts, separators=(",", ":"))))
        return record
