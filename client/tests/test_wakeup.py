"""Waking a thread from anywhere, also from inside its own way to sleep."""

from __future__ import annotations

import gc
import threading

import predlog
from conftest import threads_of_clients
from misbehaving import Service, wait_until
from predlog.wakeup import Wakeup


def test_waking_counts_once_and_also_before_the_sleep() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert wakeup.wait(60)
    assert not wakeup.wait(0)
    threading.Timer(0.05, wakeup.set).start()
    assert wakeup.wait(60)
    assert not wakeup.wait(-1)


def test_a_client_collected_by_any_thread_ends_without_waiting_for_itself(service: Service, quick: None) -> None:
    for _ in range(20):
        client = predlog.Client(service.url, flush_interval=0.01)
        client.__dict__["itself"] = client  # a cycle: the collector may find it in the client's own thread
        client.log("m", duration_ms=1, was_successful=True)
        del client
    gc.collect()
    wait_until(lambda: not threads_of_clients())
    assert len(service.records) == 20
