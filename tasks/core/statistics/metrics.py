"""Confusion matrix, scores per class, and calibration of probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Bool, Float64, Int64

BINS = 15


def confusion_matrix(predicted: NDArray[Any], labels: NDArray[Any], classes: int) -> Int64:
    """`(classes, classes)` counts: row = label, column = prediction."""
    cells = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
    return cells.reshape(classes, classes)


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class, in [0, 1]; 0 if the denominator is 0.

    `support` is the number of images of each class.
    """

    precision: Float64
    recall: Float64
    f1: Float64
    support: Int64


def class_scores(matrix: Int64) -> ClassScores:
    """The scores of each class in a confusion matrix (row = label, column = prediction)."""
    right = matrix.diagonal().astype(np.float64)
    predicted, support = matrix.sum(axis=0), matrix.sum(axis=1)
    return ClassScores(
        right / np.maximum(predicted, 1),
        right / np.maximum(support, 1),
        2 * right / np.maximum(predicted + support, 1),
        support,
    )


def most_confused(matrix: Int64, count: int) -> list[tuple[int, int, int]]:
    """(label, prediction, images) of the most frequent mistakes, the most frequent first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    cells = [(int(cell) // len(matrix), int(cell) % len(matrix)) for cell in order]
    return [(row, column, int(wrong[row, column])) for row, column in cells if wrong[row, column]]


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy in bins of equal width over [0, 1].

    `count` is the number of images per bin; `confidence` and `accuracy` are their means (0 in an
    empty bin).
    """

    count: Int64
    confidence: Float64
    accuracy: Float64

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy over images."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.count).sum() / max(1, self.count.sum()))


def calibration(confidence: NDArray[Any], correct: Bool, bins: int = BINS) -> Calibration:
    """Compare the confidence of predictions with their accuracy.

    Bins are those of Guo et al., "On calibration of modern neural networks" (2017): bin m holds
    confidences in ((m - 1) / bins, m / bins].

    Args:
        confidence: `(n,)` probability of the predicted class.
        correct: `(n,)` whether that class is the label.
        bins: the number of bins.
    """
    bin_of = np.clip(
        np.ceil(confidence.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1
    )
    count = np.bincount(bin_of, minlength=bins)
    shared = np.maximum(count, 1)
    return Calibration(
        count,
        np.bincount(bin_of, confidence, bins) / shared,
        np.bincount(bin_of, correct, bins) / shared,
    )
