"""Clients as objects: copied, pickled and handed to other processes, they stay what they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import predlog
from misbehaving import Service
from predlog import Client


@pytest.fixture(params=["copy", "deepcopy", "pickle"])
def copied(request: pytest.FixtureRequest) -> Any:
    return {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}[
        request.param
    ]


def test_a_copy_logs_with_the_options_of_the_original_and_neither_ends_the_other(
    service: Service, make_client: Callable[..., Client], copied: Any
) -> None:
    service.api_key = "key"
    client = make_client(api_key="key", batch_size=7)
    client.log("original", duration_ms=1, was_successful=True)
    other = copied(client)
    other.log("copy", duration_ms=1, was_successful=True)
    assert other.close() and other is not client
    del other
    client.log("original", duration_ms=1, was_successful=True)
    assert client.flush()
    assert service.models == {"original": 2, "copy": 1} and set(service.copies.values()) == {1}
    assert copied(client)._settings == client._settings


def test_a_copy_of_a_disabled_client_is_disabled(copied: Any) -> None:
    other = copied(predlog.Client(enabled=False))
    other.log("m", duration_ms=1, was_successful=True)
    assert other.flush() and other.stats() == predlog.Stats()


def test_a_subclass_keeps_what_it_added(service: Service, copied: Any) -> None:
    class Mine(predlog.Client):
        team = ""

    globals()["Mine"] = Mine
    Mine.__qualname__ = "Mine"
    client = Mine(service.url)
    client.team = "prices"
    other = copied(client)
    assert type(other) is Mine and other.team == "prices"
    other.log("m", duration_ms=1, was_successful=True)
    assert other.close() and client.close() and len(service.records) == 1
