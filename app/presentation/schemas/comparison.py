"""A comparison as JSON: both sides, their differences, the test, and whether they are more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import marshmallow as ma

from app.application.comparison import Comparison
from app.application.statistics import Answer, Question
from app.domain.comparison import DEFAULT_CONFIDENCE, Contrast
from app.domain.sketch import GAMMA, RELATIVE_ERROR
from app.presentation.schemas.statistics import (
    ANSWER_EXAMPLE,
    FreshnessSchema,
    SpanSchema,
    TallySchema,
    counted,
    label,
    tallied,
)

RATIO_ERROR = GAMMA - 1

SUCCESS_RATE_METHOD = (
    "Difference of two proportions: Clopper-Pearson limits of each side (1934), joined by squaring and adding "
    "(Newcombe 1998; Zou and Donner 2008). More than chance if the interval leaves out 0. "
    "Predictions are taken as independent."
)
DURATION_METHOD = (
    "Ratio of two quantiles: distribution-free limits of each side from its order statistics (Thompson 1936), joined "
    "by squaring and adding their logarithms (Zou and Donner 2008) and widened by ratio_relative_error. More than "
    "chance if the interval leaves out 1. Predictions are taken as independent; each percentile is judged by itself."
)
RATES = {1: "b succeeds more often", -1: "b succeeds less often", 0: "no difference beyond chance"}
DURATIONS = {1: "b is slower", -1: "b is faster", 0: "no difference beyond chance"}
TOO_FEW = "not enough predictions"
ZERO = "no ratio to 0 ms"

COUNTED_EXAMPLE: dict[str, Any] = {"summarized": 0, "dropped": 0, "completeness": 1.0, **ANSWER_EXAMPLE}
del COUNTED_EXAMPLE["percentile_relative_error"]
EXAMPLE = {
    "a": {
        "model_version": "1.4",
        "total_requests": 4812,
        "successful_requests": 4668,
        "failed_requests": 144,
        "success_rate": 0.970074812967581,
        "average_duration_ms": 133.284,
        "min_duration_ms": 22.5,
        "max_duration_ms": 599.7,
        "percentiles": {"50": 120.315, "95": 252.178},
        **COUNTED_EXAMPLE,
    },
    "b": {
        "model_version": "1.5",
        "total_requests": 498,
        "successful_requests": 465,
        "failed_requests": 33,
        "success_rate": 0.9337349397590361,
        "average_duration_ms": 148.43,
        "min_duration_ms": 31,
        "max_duration_ms": 505.6,
        "percentiles": {"50": 132.969, "95": 268.584},
        **COUNTED_EXAMPLE,
    },
    "confidence": DEFAULT_CONFIDENCE,
    "percentile_relative_error": RELATIVE_ERROR,
    "success_rate": {
        "difference": -0.0363399,
        "confidence_interval": {"low": -0.062296, "high": -0.0154628},
        "more_than_chance": True,
        "verdict": RATES[-1],
        "method": SUCCESS_RATE_METHOD,
    },
    "duration": {
        "percentiles": {
            "50": {
                "ratio": 1.10517,
                "confidence_interval": {"low": 1.03591, "high": 1.19722},
                "more_than_chance": True,
                "verdict": DURATIONS[1],
            },
            "95": {
                "ratio": 1.06506,
                "confidence_interval": {"low": 0.977167, "high": 1.2479},
                "more_than_chance": False,
                "verdict": DURATIONS[0],
            },
        },
        "ratio_relative_error": 0.020202,
        "method": DURATION_METHOD,
    },
}


class SideSchema(TallySchema):
    """One side: its version, its range, and its statistics."""

    model_version = ma.fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "null if predictions of any version were counted, empty if those without one were."},
    )
    range = ma.fields.Nested(SpanSchema, required=True)
    cut_to_request = ma.fields.Boolean(required=True)
    freshness = ma.fields.Nested(FreshnessSchema, required=True)


class IntervalSchema(ma.Schema):
    """A confidence interval; an end is null if there are too few predictions to bound it."""

    low = ma.fields.Float(required=True, allow_none=True)
    high = ma.fields.Float(required=True, allow_none=True)


class ContrastSchema(ma.Schema):
    """How b differs from a."""

    confidence_interval = ma.fields.Nested(IntervalSchema, required=True, allow_none=True)
    more_than_chance = ma.fields.Boolean(
        required=True,
        allow_none=True,
        metadata={
            "description": "Whether the interval leaves out no difference; null if there are too few predictions."
        },
    )
    verdict = ma.fields.String(required=True, metadata={"description": "The same in words."})


class RateContrastSchema(ContrastSchema):
    """The success rate of b minus that of a."""

    difference = ma.fields.Float(required=True, allow_none=True)
    method = ma.fields.String(required=True, metadata={"description": "Which test this is, and its source."})


class RatioSchema(ContrastSchema):
    """A percentile of b divided by the same of a."""

    ratio = ma.fields.Float(required=True, allow_none=True)


class DurationContrastSchema(ma.Schema):
    """The durations of b, compared with those of a."""

    percentiles = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.Nested(RatioSchema), required=True)
    ratio_relative_error = ma.fields.Float(
        required=True,
        metadata={"description": "How far a ratio may be from that of the logged durations, as a share of it."},
    )
    method = ma.fields.String(required=True, metadata={"description": "Which test this is, and its source."})


class ComparisonSchema(ma.Schema):
    """Both sides, and how b differs from a."""

    a = ma.fields.Nested(SideSchema, required=True)
    b = ma.fields.Nested(SideSchema, required=True)
    confidence = ma.fields.Float(required=True)
    percentile_relative_error = ma.fields.Float(required=True)
    success_rate = ma.fields.Nested(RateContrastSchema, required=True)
    duration = ma.fields.Nested(DurationContrastSchema, required=True)


def written(query: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    """Return the JSON of a comparison."""
    percentiles = query["percentiles"]
    return {
        "a": _side(query["a"], comparison.a, percentiles),
        "b": _side(query["b"], comparison.b, percentiles),
        "confidence": query["confidence"],
        "percentile_relative_error": RELATIVE_ERROR,
        "success_rate": _success_rate(comparison),
        "duration": _duration(comparison, percentiles),
    }


def _side(question: Question, answer: Answer, percentiles: Sequence[float]) -> dict[str, Any]:
    version = {"model_version": question.selection.model_version}
    common = counted(question, answer)
    del common["percentile_relative_error"]
    return version | tallied(answer.total, percentiles) | common


def _success_rate(comparison: Comparison) -> dict[str, Any]:
    contrast = comparison.success_rate
    difference = None if contrast is None else _rounded(contrast.estimate.value)
    return {"difference": difference, **_contrast(contrast, RATES), "method": SUCCESS_RATE_METHOD}


def _duration(comparison: Comparison, percentiles: Sequence[float]) -> dict[str, Any]:
    ratios = {}
    for percentile, contrast in zip(percentiles, comparison.durations):
        ratio = None if contrast is None else _rounded(contrast.estimate.value)
        ratios[label(percentile)] = {"ratio": ratio, **_contrast(contrast, DURATIONS)}
        if contrast is None and comparison.success_rate is not None:  # there are predictions
            ratios[label(percentile)]["verdict"] = ZERO
    return {"percentiles": ratios, "ratio_relative_error": _rounded(RATIO_ERROR), "method": DURATION_METHOD}


def _contrast(contrast: Contrast | None, words: dict[int, str]) -> dict[str, Any]:
    if contrast is None or not contrast.is_bounded:
        return {"confidence_interval": None, "more_than_chance": None, "verdict": TOO_FEW}
    low, high = contrast.estimate.low, contrast.estimate.high
    return {
        "confidence_interval": {"low": _rounded(low), "high": _rounded(high)},
        "more_than_chance": contrast.sign != 0,
        "verdict": words[contrast.sign],
    }


def _rounded(value: float) -> float | None:
    """Round to six digits, because more would only look exact."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
