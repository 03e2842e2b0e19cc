"""The threads of a pipeline, and the wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from predlog.throttled_log import Trouble

POLL = 0.02  # seconds, at most, between looks while flush() waits
START_AGAIN = 1.0  # seconds, if the system refused a thread


class Threads:
    """Threads that go on after an error, in the order in which they began."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._threads: list[threading.Thread] = []

    def __len__(self) -> int:
        return len(self._threads)

    def begin(self, name: str, run: Callable[[], None]) -> None:
        """Start a thread that ends when `run` returns. Raises RuntimeError if the system refuses it."""

        def guarded() -> None:
            while True:
                try:
                    return run()
                except Exception as error:
                    kind = type(error).__name__
                    self._trouble.warn(f"{name} {kind}", "Predlog: the %s failed (%s) and goes on", name, kind)
                    time.sleep(START_AGAIN)

        thread = threading.Thread(target=guarded, name=f"predlog-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def alive(self, after: int = 0) -> bool:
        """Whether a thread runs, the first `after` ones aside."""
        return any(thread.is_alive() for thread in self._threads[after:])


def poll(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether the condition came true by then; sleeps in between, which lets greenlets go on, too."""
    pause = POLL / 20
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(POLL, pause * 2)
    return True
