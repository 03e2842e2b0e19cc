"""A model server for the fault tests: calls a model steadily, logs each prediction, and keeps a journal of its own.

    caller.py URL SPOOL JOURNAL MODEL CALLS_A_SECOND FLUSH_INTERVAL

Each line of the journal is the request id of a prediction and when it was made, written before it is logged. Ends at
SIGTERM.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

import predlog


def main() -> None:
    url, spool, journal, model, rate, interval = sys.argv[1:]
    # Not in the middle of a prediction, which would be in the journal and not be logged.
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    log = predlog.Client(url, spool_dir=spool, flush_interval=float(interval), timeout=5, exit_timeout=5)
    with Path(journal).open("a", buffering=1) as lines:
        while not ended:
            now, request_id = datetime.now(timezone.utc), uuid4()
            successful = random.random() > 0.1
            lines.write(f"{request_id} {now.timestamp()} {int(successful)}\n")
            log.log(model, duration_ms=random.lognormvariate(3, 1), was_successful=successful,
                    timestamp=now, request_id=request_id)  # fmt: skip
            time.sleep(random.expovariate(float(rate)))


if __name__ == "__main__":
    main()
