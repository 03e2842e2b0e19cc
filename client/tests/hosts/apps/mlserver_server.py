"""`mlserver start mlserver_model`, on ports that are free."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from mlserver.cli import main


def free_port() -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ["MLSERVER_HTTP_PORT"] = os.environ["PORT"]
    os.environ["MLSERVER_GRPC_PORT"] = free_port()
    os.environ["MLSERVER_METRICS_PORT"] = free_port()
    sys.argv[1:] = ["start", str(Path(__file__).parent / "mlserver_model")]
    main()
