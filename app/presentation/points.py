"""Divide answers into points of time: of the bucket that was asked for, or of the shortest one that has been kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo
from typing import TypeVar

from app.application.statistics import Answer, Question
from app.domain.errors import InvalidInput
from app.domain.instants import TimeRange
from app.domain.statistics import Series
from app.domain.timeline import BUCKETS, choose_bucket, timeline
from app.presentation.services import services

T = TypeVar("T")
AUTO = "auto"


def divided(
    question: Question, bucket: str, zone: tzinfo, ask: Callable[[Question], T], answered: Callable[[T], TimeRange]
) -> tuple[str, Series, T]:
    """Ask a question by points of time; return their bucket, the series, and what `ask` returns.

    With AUTO the bucket is the one that makes about 60 points, or a longer one if retention has left too little for it.
    `answered` gives the range of an answer. Raises InvalidInput if there are no points of this bucket, or too many.
    """
    names = list(BUCKETS)
    for name in names[names.index(choose_bucket(question.range)) :] if bucket == AUTO else [bucket]:
        series = timeline(question.range, name, zone)
        found = ask(replace(question, series=series))
        if not question.range or _holds(answered(found), question.range):
            return name, series, found
    advice = "take a longer bucket, `timezone=UTC`, or a later range."
    raise InvalidInput("bucket", f"Too little of this range has been kept for points of {name}: {advice}")


def statistics_by_points(question: Question, bucket: str, zone: tzinfo) -> tuple[str, Series, Answer]:
    """Put the question to the statistics."""

    def ask(by_points: Question) -> Answer:
        return services().readers.ask(lambda reader: reader.statistics.ask(by_points))

    return divided(question, bucket, zone, ask, lambda answer: answer.range)


def _holds(answered: TimeRange, asked: TimeRange) -> bool:
    """Return whether an answer is about all of the range: what is kept may be too coarse for its ends."""
    return answered.start <= asked.start and answered.end >= asked.end
