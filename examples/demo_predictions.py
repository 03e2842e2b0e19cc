"""A week of made-up predictions with a bad release, a slow hour and a model that fell silent, and how they go on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Prediction = dict[str, Any]
Outcome = tuple[float, str | None]

HISTORY = timedelta(days=7)
RELEASE = timedelta(hours=5)
SLOW_HOUR = timedelta(hours=9)
SILENCE = timedelta(hours=2, minutes=40)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Model:
    """How a made-up model is called: `gap_s` seconds apart at noon; `answer` gives milliseconds and the error."""

    name: str
    gap_s: float
    answer: Callable[[datetime, datetime], Outcome]
    version: Callable[[datetime, datetime], str]
    is_called: Callable[[datetime, datetime], bool] = lambda at, now: True


def predictions(start: datetime, end: datetime, now: datetime) -> Iterator[Prediction]:
    """All predictions from `start` to `end` (not included); the stories are told relative to `now`."""
    for model in MODELS:
        at = start + timedelta(seconds=random.expovariate(1 / _gap(model, start)))
        while at < end:
            if model.is_called(at, now):
                yield _prediction(model, at, now)
            at += timedelta(seconds=random.expovariate(1 / _gap(model, at)))


def _gap(model: Model, at: datetime) -> float:
    """Busier by day than by night."""
    hour = at.hour + at.minute / 60
    return model.gap_s / (0.55 + 0.45 * math.cos((hour - 14) / 12 * math.pi))


def _prediction(model: Model, at: datetime, now: datetime) -> Prediction:
    duration_ms, error = model.answer(at, now)
    prediction: Prediction = {
        "model_name": model.name,
        "model_version": model.version(at, now),
        "duration_ms": round(duration_ms, 3),
        "was_successful": error is None,
        "timestamp": at.isoformat(),
        "metadata": {"host": f"gpu-{random.randrange(4)}", "batch": random.choice([1, 1, 1, 8])},
    }
    return prediction if error is None else prediction | {"error": error}


def _lasts(median_ms: float, spread: float = 0.45) -> float:
    return random.lognormvariate(math.log(median_ms), spread)


def _fraud(at: datetime, now: datetime) -> Outcome:
    if at < now - RELEASE:
        return _lasts(38), f"TimeoutError: feature store, {random.randrange(800, 3000)} ms" if _chance(0.004) else None
    customer = random.randrange(10_000, 99_999)
    error = f"KeyError: 'merchant_age' of customer {customer}" if _chance(0.085) else None
    return _lasts(52, 0.6), error


def _ranking(at: datetime, now: datetime) -> Outcome:
    is_slow = now - SLOW_HOUR - HOUR <= at < now - SLOW_HOUR
    return _lasts(21) * (6 if is_slow else 1), "ConnectionError: shard 3 is away" if _chance(0.002) else None


def _price(at: datetime, now: datetime) -> Outcome:
    return _lasts(118, 0.25), f"ValueError: {random.randrange(60, 900)} m² is out of range" if _chance(0.011) else None


def _tagger(at: datetime, now: datetime) -> Outcome:
    return _lasts(900, 0.2) if _chance(0.25) else _lasts(140, 0.3), None


def _spam(at: datetime, now: datetime) -> Outcome:
    return _lasts(2.4, 0.5), None


def _churn(at: datetime, now: datetime) -> Outcome:
    return _lasts(7.5, 0.35), "MemoryError" if _chance(0.001) else None


def _chance(share: float) -> bool:
    return random.random() < share


def _released(before: str, after: str) -> Callable[[datetime, datetime], str]:
    return lambda at, now: before if at < now - RELEASE else after


def _always(version: str) -> Callable[[datetime, datetime], str]:
    return lambda at, now: version


MODELS = (
    Model("checkout_fraud", 14, _fraud, _released("2.3", "2.4")),
    Model("search_ranking", 13, _ranking, _always("2026-11")),
    Model("apartment_price", 30, _price, lambda at, now: "7" if at < now - 3 * timedelta(days=1) else "8"),
    Model("image_tagger", 40, _tagger, _always("clip-b32")),
    Model("spam_filter", 20, _spam, _always("4.1"), lambda at, now: at < now - SILENCE),
    Model("churn_score", 5, _churn, _always("1.9"), lambda at, now: at.hour == 3),
)
