"""What is kept of segments is bounded, whatever was read."""

from __future__ import annotations

import pytest

from app.domain.sketch import LatencySketch
from app.domain.statistics import Tally
from app.infrastructure import segment_memory as module
from app.infrastructure.segment_memory import segment_memory


def tallies(bins: int) -> dict[str, Tally]:
    return {"model": Tally(sketch=LatencySketch((number, 1) for number in range(bins)))}


def test_the_least_recently_used_leaves_when_the_bins_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHT", 300)
    memory = segment_memory()
    memory["first"], memory["second"] = tallies(100), tallies(100)
    assert memory.get("first")
    memory["third"] = tallies(100)
    assert set(memory) == {"first", "third"}


def test_a_segment_that_alone_would_fill_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHT", 300)
    with pytest.raises(ValueError, match="too large"):
        segment_memory()["one"] = tallies(400)


def test_after_a_minute_it_is_forgotten_though_it_was_used() -> None:
    now = [0.0]
    memory = segment_memory(lambda: now[0])
    memory["one"] = tallies(1)
    now[0] = 59.0
    assert "one" in memory
    now[0] = 61.0
    assert "one" not in memory
