"""A model server on Flask that logs every prediction: the lines with `log` are all it takes.

PREDLOG_URL=http://127.0.0.1:8000 gunicorn --preload --workers 2 examples.flask_server:app
"""

from __future__ import annotations

import os

from flask import Flask, Response, jsonify, request

import predlog
from examples.models import train

app = Flask(__name__)
models = train()
log = predlog.Client(spool_dir=os.environ.get("SPOOL_DIR"))


@app.post("/predict/<name>")
def predict(name: str) -> Response | tuple[Response, int]:
    model = models[name]
    try:
        with log.track(model.name, version=model.version) as call:
            features = request.get_json()["features"]
            call.metadata["features"] = len(features)
            prediction = model.predict(features)
    except (KeyError, TypeError, ValueError) as error:
        return jsonify(error=str(error)), 422
    return jsonify(prediction=prediction)
