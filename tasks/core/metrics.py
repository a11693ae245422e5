"""Scores of predicted probabilities, as Keras computes them, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.data import Float32, Int64

# Keras clips probabilities to [epsilon, 1 - epsilon] before the logarithm (keras.config.epsilon).
EPSILON = 1e-7


def accuracy(probabilities: Float32, y: Float32) -> float:
    """Share of rows whose most probable class is the one-hot label's, in [0, 1]."""
    return float(np.mean(probabilities.argmax(axis=1) == y.argmax(axis=1)))


def categorical_crossentropy(probabilities: Float32, y: Float32) -> float:
    """Mean over rows of -log of the label's probability, in nats."""
    p = probabilities.astype(np.float64)
    p = np.clip(p / p.sum(axis=1, keepdims=True), EPSILON, 1 - EPSILON)
    return float(-np.mean(np.sum(y * np.log(p), axis=1)))


def binary_crossentropy(probabilities: Float32, y: Float32) -> float:
    """Mean over rows and classes of the two-way cross-entropy, in nats."""
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def confusion_matrix(predicted: NDArray[Any], labels: NDArray[Any], classes: int) -> Int64:
    """`(classes, classes)` counts: row = label, column = prediction."""
    cells = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
    return cells.reshape(classes, classes)
