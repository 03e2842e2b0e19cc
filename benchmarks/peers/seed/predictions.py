"""Domain, use case and repository of logged predictions, each an object of its own for each request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from .database import PredictionModel


@dataclass
class Prediction:
    model_name: str
    duration_ms: float
    was_successful: bool
    timestamp: datetime
    id: int | None = None


class PredictionRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def create(self, prediction: Prediction) -> Prediction:
        model = PredictionModel(
            model_name=prediction.model_name,
            duration_ms=prediction.duration_ms,
            was_successful=prediction.was_successful,
            timestamp=prediction.timestamp,
        )
        self.session.add(model)
        await self.session.commit()
        await self.session.refresh(model)
        return Prediction(
            id=model.id,
            model_name=model.model_name,
            duration_ms=model.duration_ms,
            was_successful=model.was_successful,
            timestamp=model.timestamp,
        )


class LogPrediction:
    def __init__(self, repository: PredictionRepository) -> None:
        self.repository = repository

    async def execute(self, prediction: Prediction) -> Prediction:
        return await self.repository.create(prediction)
