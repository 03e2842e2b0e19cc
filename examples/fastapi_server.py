"""The same model server on FastAPI.

PREDLOG_URL=http://127.0.0.1:8000 uvicorn examples.fastapi_server:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

import predlog
from examples.models import train

models = train()
log = predlog.Client(spool_dir=os.environ.get("SPOOL_DIR"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # uvicorn ends itself by the signal that it got, so nothing that waits for the end of the interpreter would run.
    yield
    log.close()


app = FastAPI(lifespan=lifespan)


@app.post("/predict/{name}")
def predict(name: str, body: dict[str, Any]) -> JSONResponse:
    model = models[name]
    try:
        with log.track(model.name, version=model.version) as call:
            features = body["features"]
            call.metadata["features"] = len(features)
            prediction = model.predict(features)
    except (KeyError, TypeError, ValueError) as error:
        return JSONResponse({"error": str(error)}, 422)
    return JSONResponse({"prediction": prediction})
