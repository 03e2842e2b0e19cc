"""Programs that log so many predictions and end in a way of their own: `python programs.py pool-fork`."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from typing import Any

import predlog

SENT = int(os.environ["SENT"])
MODEL = os.environ["MODEL"]

log = predlog.Client(spool_dir=os.environ.get("SPOOL"))


def work(number: Any) -> None:
    log.log(MODEL, duration_ms=number, was_successful=True)


def part(_: Any) -> None:
    for number in range(SENT // 10):
        work(number)


def flushed_part(number: Any) -> None:
    part(number)
    log.flush()


def script() -> None:
    for number in range(SENT):
        work(number)
    note()


def note() -> None:
    """The runner sees when the last prediction was logged."""
    with open(os.path.join(os.environ["FOLDER"], "logged"), "w"):
        pass


def raising() -> None:
    script()
    raise SystemExit("as if something had gone wrong")


def pool(context: Any) -> None:
    workers = multiprocessing.get_context(context).Pool(2)
    workers.map(work, range(SENT))
    note()
    workers.close()
    workers.join()


def processes(context: Any) -> None:
    children = [multiprocessing.get_context(context).Process(target=part, args=(number,)) for number in range(10)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    note()


def parallel(backend: Any) -> None:
    import joblib

    function = flushed_part if backend == "multiprocessing" else part
    with joblib.parallel_config(backend):
        joblib.Parallel(n_jobs=2)(joblib.delayed(function)(number) for number in range(10))
    note()


def os_exit() -> None:
    script()
    os._exit(0)


def os_exit_after_flush() -> None:
    script()
    log.flush(60)
    os._exit(0)


def abandoned() -> None:
    """Ends without any handler, a while after its last prediction."""
    script()
    time.sleep(1.5)
    while (stats := log.stats()).spooled + stats.sent + stats.duplicates < SENT:  # only on a machine that is very busy
        time.sleep(0.01)
    os._exit(0)


def sweep() -> None:
    """A later process sends the records in the spool."""
    log.flush(60)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
