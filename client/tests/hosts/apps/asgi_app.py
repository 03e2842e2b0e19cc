import os

import predlog
from predlog.integrations.asgi import Middleware


async def predict(scope, receive, send):
    assert scope["type"] == "http"  # it has no lifespan
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": b"1"})


log = predlog.Client()
app = Middleware(predict, log, {"/": os.environ["MODEL"]})
