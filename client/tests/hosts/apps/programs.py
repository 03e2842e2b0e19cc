"""Programs that log so many calls and end in a way of their own: `python programs.py pool-fork`."""

import multiprocessing
import os
import sys
import time

import predlog

SENT = int(os.environ["SENT"])
MODEL = os.environ["MODEL"]

log = predlog.Client(spool_dir=os.environ.get("SPOOL"))


def work(number):
    log.log(MODEL, duration_ms=number, was_successful=True)


def part(_):
    for number in range(SENT // 10):
        work(number)


def script():
    for number in range(SENT):
        work(number)
    note()


def note():
    """The runner sees when the last call was logged."""
    with open(os.path.join(os.environ["FOLDER"], "logged"), "w"):
        pass


def raising():
    script()
    raise SystemExit("as if something had gone wrong")


def pool(context):
    with multiprocessing.get_context(context).Pool(2, initializer=log.install_signal_handler) as workers:
        workers.map(work, range(SENT))
        note()


def processes(context):
    children = [multiprocessing.get_context(context).Process(target=part, args=(number,)) for number in range(10)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    note()


def parallel(backend):
    import joblib

    options = {"initializer": log.install_signal_handler} if backend == "multiprocessing" else {}
    with joblib.parallel_config(backend, **options):
        joblib.Parallel(n_jobs=2)(joblib.delayed(part)(number) for number in range(10))
    note()


def os_exit():
    script()
    os._exit(0)


def os_exit_after_flush():
    script()
    log.flush()
    os._exit(0)


def abandoned():
    """Ends without any handler, a while after its last call."""
    script()
    time.sleep(1.5)
    os._exit(0)


def sweep():
    """A later process sends the records in the spool."""
    log.flush()


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
