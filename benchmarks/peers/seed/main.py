"""The application: uvicorn seed.main:app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from .database import engine, get_session
from .predictions import LogPrediction, Prediction, PredictionRepository


class PredictionRequest(BaseModel):
    model_name: str = Field(min_length=1, max_length=200)
    duration_ms: float = Field(ge=0)
    was_successful: bool
    timestamp: datetime


class PredictionResponse(PredictionRequest):
    model_config = ConfigDict(from_attributes=True)

    id: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


def use_case(session: Annotated[AsyncSession, Depends(get_session)]) -> LogPrediction:
    return LogPrediction(PredictionRepository(session))


app = FastAPI(title="ML Prediction Logging Service", lifespan=lifespan)
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])


@app.post("/api/v1/predict-log", response_model=PredictionResponse)
async def log_prediction(
    request: PredictionRequest, log: Annotated[LogPrediction, Depends(use_case)]
) -> PredictionResponse:
    stored = await log.execute(Prediction(**request.model_dump()))
    return PredictionResponse.model_validate(stored)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "healthy"}
