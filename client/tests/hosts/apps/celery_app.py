from __future__ import annotations

import os
from typing import Any

import celery

import predlog
from predlog.integrations.celery import TaskTracking

FOLDER = os.environ["FOLDER"]

app = celery.Celery("celery_app", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": FOLDER, "data_folder_out": FOLDER, "control_folder": FOLDER}
app.conf.worker_max_tasks_per_child = 20
TaskTracking(predlog.Client(), {"predict": os.environ["MODEL"]})


@app.task(name="predict")
def predict(number: Any) -> Any:
    with open(os.path.join(FOLDER, "done"), "a") as done:
        done.write("1")
    return number


if __name__ == "__main__":
    for number in range(int(os.environ["SENT"])):
        predict.delay(number)
