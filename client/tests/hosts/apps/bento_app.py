import os

import bentoml

import predlog
from predlog.integrations.bentoml import track


@bentoml.service
class Price:
    @bentoml.api
    def predict(self, rooms: int) -> float:
        return 2.0 * rooms


track(Price, predlog.Client(), {"/predict": os.environ["MODEL"]})
