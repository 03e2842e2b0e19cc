from __future__ import annotations

import os
from typing import Any

import predlog
from predlog.integrations.wsgi import Middleware


def predict(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1")])
    return [b"1"]


log = predlog.Client()
app = Middleware(predict, log, {"/": os.environ["MODEL"]})
