from __future__ import annotations

import os
from typing import Any

from flask import Flask

from predlog.integrations.flask import Predlog

app = Flask(__name__)
Predlog(app, routes={"/": os.environ["MODEL"]})


@app.get("/")
def predict() -> Any:
    return "1"


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
