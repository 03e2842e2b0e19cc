from __future__ import annotations

import os
from typing import Any

import predlog
from predlog.integrations.asgi import Middleware


async def predict(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"  # it has no lifespan
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": b"1"})


log = predlog.Client()
app = Middleware(predict, log, {"/": os.environ["MODEL"]})
