"""A purge removes what aggregates know of a model up to where single predictions begin."""

from __future__ import annotations

from datetime import datetime, timezone

from app.application.purge import Purge, PurgeFilters
from app.domain.instants import DAY, TimeRange

NOW = datetime(2026, 6, 30, tzinfo=timezone.utc)


class MovingEdge:
    """A log of whose first 40 days retention drops the predictions while a purge is under way."""

    def __init__(self) -> None:
        self.edge: datetime | None = None
        self.removed: list[TimeRange] = []

    def raw_from(self) -> datetime | None:
        return self.edge

    def remove_predictions(self, filters: PurgeFilters, within: TimeRange) -> tuple[int, datetime | None]:
        self.edge = NOW - 30 * DAY
        return 1, None

    def remove_summaries(self, filters: PurgeFilters, within: TimeRange) -> int | None:
        return None

    def remove_halves(self, filters: PurgeFilters, within: TimeRange) -> None:
        pass

    def first_bucket(self, filters: PurgeFilters, before: datetime) -> datetime | None:
        return NOW - 70 * DAY

    def remove_buckets(self, filters: PurgeFilters, within: TimeRange) -> int:
        self.removed.append(within)
        return 1

    def count(self, filters: PurgeFilters, within: TimeRange) -> int:
        raise NotImplementedError

    def tidy(self, model_name: str | None) -> None:
        pass


def test_buckets_are_removed_up_to_an_edge_that_has_moved_meanwhile() -> None:
    store = MovingEdge()
    *_, last = Purge(store).run(PurgeFilters(model_name="m"), NOW)
    assert (last.is_complete, last.raw_from) == (True, NOW - 30 * DAY)
    assert (store.removed[0].start, store.removed[-1].end) == (NOW - 70 * DAY, NOW - 30 * DAY)
