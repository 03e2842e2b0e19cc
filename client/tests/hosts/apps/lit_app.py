from __future__ import annotations

import os
from typing import Any

import litserve

import predlog
from predlog.integrations.litserve import middleware


class Price(litserve.LitAPI):
    def setup(self, device: Any) -> None:
        pass

    def predict(self, request: Any) -> Any:
        return {"price": 2 * request["rooms"]}


if __name__ == "__main__":
    server = litserve.LitServer(
        Price(), accelerator="cpu", middlewares=[middleware(predlog.Client(), os.environ["MODEL"])]
    )
    server.run(port=int(os.environ["PORT"]), generate_client_file=False)
