from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI

import predlog
from predlog.integrations.fastapi import Middleware

app = FastAPI()
app.add_middleware(Middleware, log=predlog.Client(), routes={"/": os.environ["MODEL"]})


@app.get("/")
def predict() -> Any:
    return 1
