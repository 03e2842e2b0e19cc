"""A pool of connections with a meter."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Engine, event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool


class PoolMeter(Protocol):
    """Counts the events of a pool; its methods are called in any thread."""

    def lent(self) -> None: ...

    def given_back(self) -> None: ...

    def waited(self) -> None: ...

    def timed_out(self) -> None: ...


class MeteredPool(QueuePool):
    """SQLAlchemy's own pool, which tells an attached meter of every wait for a connection."""

    meter: PoolMeter | None = None

    def connect(self) -> PoolProxiedConnection:
        """Lend a connection. Raises sqlalchemy.exc.TimeoutError if none becomes free in time."""
        if self.meter is None:
            return super().connect()
        if self.checkedout() >= self.size():
            self.meter.waited()
        try:
            return super().connect()
        except PoolTimeout:
            self.meter.timed_out()
            raise

    def recreate(self) -> MeteredPool:
        pool = super().recreate()
        assert isinstance(pool, MeteredPool)
        pool.meter = self.meter
        return pool


def attach(meter: PoolMeter, engine: Engine) -> None:
    """Tell the meter of every use of the engine's connections."""
    assert isinstance(engine.pool, MeteredPool)
    engine.pool.meter = meter

    @event.listens_for(engine, "checkout")
    def lent(*_: Any) -> None:
        meter.lent()

    @event.listens_for(engine, "checkin")
    def given_back(*_: Any) -> None:
        meter.given_back()
