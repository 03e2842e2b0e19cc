import os

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

import predlog
from predlog.integrations.mlserver import logged


@logged(predlog.Client(flush_interval=30), os.environ["MODEL"])
class Price(MLModel):
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rooms = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(model_name="price", outputs=[NumpyCodec.encode_output("price", 2 * rooms)])
