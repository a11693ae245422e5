"""Scores and gains in words, by the metric: shares in per cent and points, log losses in nats."""

from __future__ import annotations

from typing import Final

from tasks.core.settings.evaluation import Metric

NAMES: Final[dict[str, str]] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
}


def unit(metric: Metric) -> str:
    """The unit of a gain."""
    return "nats" if metric == "log_loss" else "points"


def score_words(metric: Metric, value: float, digits: int = 2) -> str:
    """A score without its unit, e.g. `86.12` (per cent) or `0.3512` (nats)."""
    return f"{value:.4f}" if metric == "log_loss" else f"{100 * value:.{digits}f}"


def gain_words(metric: Metric, value: float, digits: int = 2) -> str:
    """A gain with its sign and without its unit, e.g. `+1.25` (points) or `-0.0105` (nats)."""
    return f"{value:+.4f}" if metric == "log_loss" else f"{100 * value:+.{digits}f}"
