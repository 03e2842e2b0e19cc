"""Models of real libraries, wrapped: what they predict stays the same, and each call is logged with its rows."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from hosts.run import SOURCES, python_with
from misbehaving import Service

MODELS = {
    "sklearn": """
        from sklearn.linear_model import LinearRegression
        model, call = LinearRegression().fit(rows, [1, 2, 3]), "predict"
    """,
    "xgboost": """
        import xgboost
        model, call = xgboost.train({}, xgboost.DMatrix(rows, label=[1, 2, 3]), 2), "predict"
        rows = xgboost.DMatrix(rows)
    """,
    "keras": """
        import os
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
        model, call = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), "predict"
    """,
    "torch": """
        import torch
        model, call, rows = torch.nn.Linear(2, 1).eval(), "__call__", torch.tensor(rows)
    """,
}
CALL = """
        import numpy, predlog
        from predlog.integrations.predict import Logged
        rows = numpy.array([[1.0, 2.0], [2.0, 3.0], [3.0, 5.0]], dtype="float32")
        {make}
        log = predlog.Client()
        logged = Logged(model, log, "m", version="3")
        expected = getattr(model, call)(rows)
        answer = logged(rows) if call == "__call__" else getattr(logged, call)(rows)
        assert (numpy.asarray(answer.tolist()) == numpy.asarray(expected.tolist())).all()
        assert log.close(30)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("library", MODELS)
def test_a_model_of_a_real_library_is_logged(library: Any, service: Service) -> None:
    needs = [library, "numpy", *(["torch"] if library == "keras" else [])]
    python = python_with(*needs)
    if python is None:
        pytest.skip(f"not installed together: {', '.join(needs)} (make test-hosts, and torch by hand: it is gigabytes)")
    source = CALL.format(make=MODELS[library].strip())
    done = subprocess.run(
        [python, "-c", "\n".join(line[8:] for line in source.splitlines())],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "PREDLOG_URL": service.url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [record] = service.records.values()
    assert (record["model_version"], record["metadata"]) == ("3", {"rows": 3}) and record["was_successful"]
