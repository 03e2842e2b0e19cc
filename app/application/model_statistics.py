"""Statistics of every model that was ever logged, page by page, in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from app.application.statistics import Answer, Question, Statistics

NO_MODEL = ""  # no model has an empty name
# Of a page: one for each point of each model. A tally with ten bins takes 2 KB of the worker's memory until the answer
# is written, one with a hundred bins 7 KB.
MAX_TALLIES = 25_000


class ModelNames(Protocol):
    """The store of the names of all models."""

    def model_names(
        self, model_names: Sequence[str], search: str | None, after: str | None, limit: int
    ) -> Sequence[str]: ...


@dataclass(frozen=True)
class ModelPage:
    """The models of one page, their tallies, and whether there are more models."""

    model_names: Sequence[str]
    answer: Answer
    has_more: bool


class ModelStatistics:
    """Statistics by model. The names come from the list of all models, so models without predictions are there, too."""

    def __init__(self, names: ModelNames, statistics: Statistics) -> None:
        self._names = names
        self._statistics = statistics

    def page(self, question: Question, search: str | None, after: str | None, limit: int) -> ModelPage:
        """Answer the question for up to `limit` of its models (of all if it names none) after a name.

        `search` is a part of their names, in upper or lower case. With many points of time the page has fewer models,
        so that it needs at most MAX_TALLIES.
        """
        if question.series:
            limit = min(limit, MAX_TALLIES // len(question.series.edges))
        found = self._names.model_names(question.selection.model_names, search, after, limit + 1)
        names = tuple(found[:limit])
        selection = replace(question.selection, model_names=names or (NO_MODEL,))
        answer = self._statistics.ask(replace(question, selection=selection))
        return ModelPage(names, answer, len(found) > limit)
