"""How pages write scores and gains by a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.settings.evaluation import Metric
from tasks.core.statistics.metric_words import gain_words, score_words
from tasks.reporting.rendering import UNKNOWN


def score(value: float | None, metric: Metric) -> str:
    """A score by a metric, e.g. `86.12 %` or `0.3512`."""
    if value is None:
        return UNKNOWN
    return score_words(metric, value) + _per_cent(metric)


def gain(value: float | None, metric: Metric) -> str:
    """A gain by a metric with its sign and without its unit, e.g. `+1.25` or `−0.0105`."""
    if value is None:
        return UNKNOWN
    return gain_words(metric, value).replace("-", "\N{MINUS SIGN}")


def _per_cent(metric: Metric) -> str:
    return "" if metric == "log_loss" else "\N{NO-BREAK SPACE}%"


def interval(row: Mapping[str, Any], split: str, metric: Metric = "accuracy") -> str:
    """The 95 % interval of a score, e.g. `86.12 to 88.90 %`."""
    return scores_from(row.get(f"{split}_{metric}_low"), row.get(f"{split}_{metric}_high"), metric)


def scores_from(low: float | None, high: float | None, metric: Metric) -> str:
    """From one score to another, as `interval` writes them."""
    if low is None or high is None:
        return UNKNOWN
    return f"{score_words(metric, low)} to {score_words(metric, high)}{_per_cent(metric)}"
