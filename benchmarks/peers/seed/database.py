"""An async engine, and a session for each request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime

from sqlalchemy import DateTime
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# As many connections as there are requests at once: with SQLAlchemy's default of 5 some are opened anew all the time.
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=20)
make_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class PredictionModel(Base):
    """One prediction."""

    __tablename__ = "prediction_logs"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(index=True)
    duration_ms: Mapped[float]
    was_successful: Mapped[bool]
    timestamp: Mapped[datetime] = mapped_column(DateTime)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with make_session() as session:
        yield session
