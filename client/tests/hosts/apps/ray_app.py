from __future__ import annotations

import os
import signal
from typing import Any, cast

import ray
from ray import serve

import predlog
from predlog.integrations.ray import logged

log = predlog.Client(flush_interval=30)  # Ray takes longer than the default to end


@serve.deployment(num_replicas=1)
@logged(log, os.environ["MODEL"])
class Price:
    async def __call__(self, request: Any) -> Any:
        return "1"


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ray.init(num_cpus=1, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(cast(Any, Price).bind())  # the decorator's class has it
    signal.sigwait([signal.SIGTERM])
    serve.shutdown()
    ray.shutdown()
