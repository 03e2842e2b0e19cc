"""Two small models, trained in a second on data sets that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True)
class Model:
    """A trained model: `predict` takes one row of features; `rows` are some that it was not trained on."""

    name: str
    version: str
    predict: Callable[[Sequence[float]], float]
    rows: list[list[float]]


def train() -> dict[str, Model]:
    """Train both. A row with a missing value or of the wrong length makes `predict` raise, as in production."""
    diabetes, wine = load_diabetes(), load_wine()
    return {
        model.name: model
        for model in (
            _fit("diabetes_progression", "1", RandomForestRegressor(20, random_state=0), diabetes),
            _fit("wine_cultivar", "2", make_pipeline(StandardScaler(), LogisticRegression()), wine),
        )
    }


def _fit(name: str, version: str, estimator: Any, data: Any) -> Model:
    known, new = data.data[::2], data.data[1::2]
    estimator.fit(known, data.target[::2])

    def predict(features: Sequence[float]) -> float:
        row = np.asarray([features], dtype=float)
        if not np.isfinite(row).all():
            raise ValueError("a feature is missing")
        return float(estimator.predict(row)[0])

    return Model(name, version, predict, new.tolist())
