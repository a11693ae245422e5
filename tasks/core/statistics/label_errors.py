"""Probable label errors by confident learning, from predictions on images held out from training.

Source of all of it: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in
Dataset Labels", Journal of Artificial Intelligence Research 70 (2021), 1373-1411.

Everywhere, `labels` are the given class indices `(n,)`, in [0, classes), and `probabilities`
`(n, classes)` in [0, 1] those that a model gives images that were held out from its training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Bool, Float64, Int64

# A class whose images all have the same probability reaches its mean, however it is rounded.
_ROUNDING = 1e-6

Probabilities = NDArray[np.floating]


def thresholds(labels: Int64, probabilities: Probabilities) -> Float64:
    """Each class's mean self-confidence `(classes,)`: how sure of itself the class has to be.

    The self-confidence of an image is the probability of its given label. A class without images
    gets infinity, so nothing is ever taken for it.
    """
    classes = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, self_confidence(labels, probabilities), minlength=classes)
    found: Float64 = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
    return found


def self_confidence(labels: Int64, probabilities: Probabilities) -> Float64:
    """The probability of each image's given label, `(n,)`."""
    found: Float64 = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return found


def confident_joint(labels: Int64, probabilities: Probabilities) -> Int64:
    """Count images by given label (rows) and confident label (columns), `(classes, classes)`.

    An image's confident label is the most probable of the classes whose probability is at least
    their threshold. An image without one is not counted.
    """
    classes = probabilities.shape[1]
    reached: Bool = probabilities >= thresholds(labels, probabilities) - _ROUNDING
    counted = reached.any(axis=1)
    confident = np.where(reached, probabilities, -1).argmax(axis=1)
    cells = labels[counted] * classes + confident[counted]
    found: Int64 = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    return found


def calibrated_joint(counted: Int64, sizes: Int64) -> Float64:
    """The confident joint with rows scaled to the number of images of each given label.

    The result is the estimated number of images by given label (rows) and true label (columns);
    all that is off its diagonal are label errors.

    Args:
        counted: the confident joint `(classes, classes)`.
        sizes: the number of images of each given label `(classes,)`. The images of a class none of
            which was counted are taken to be labelled correctly.
    """
    some = np.any(counted, axis=1, keepdims=True)
    rows = np.where(some, counted, np.eye(len(counted), dtype=np.int64))
    found: Float64 = rows * (sizes / rows.sum(axis=1))[:, None]
    return found


@dataclass(frozen=True)
class LabelErrors:
    """Images whose labels are probably wrong, and how many there are in all.

    Attributes:
        joint: estimated number of images by given (rows) and true label, `(classes, classes)`.
        images: the positions of the suspects, the most suspicious first, `(m,)`.
        suggested: the most probable class other than the given one of each suspect, `(m,)`.
    """

    joint: Float64
    images: Int64
    suggested: Int64

    @property
    def estimated(self) -> float:
        """The estimated number of label errors, in all pairs of classes."""
        return float(self.joint.sum() - np.trace(self.joint))


def find_label_errors(labels: Int64, probabilities: Probabilities) -> LabelErrors:
    """Estimate the number of label errors, and rank the images that are probably among them.

    The paper's "prune by class": of each class, as many images as it is estimated to have errors
    are suspected, those with the lowest self-confidence, but none whose given class is the most
    probable one. They are ranked by the paper's normalised margin: how much more probable the given
    class is than any other. `benchmarks/label_errors.py` compares the paper's rules and orders.
    """
    counted = confident_joint(labels, probabilities)
    joint = calibrated_joint(counted, np.bincount(labels, minlength=len(counted)))
    confidence = self_confidence(labels, probabilities)
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    suggested = others.argmax(axis=1)
    margin = confidence - others.max(axis=1)
    suspected = np.zeros(len(labels), bool)
    for given, errors in enumerate(np.rint(joint.sum(axis=1) - joint.diagonal()).astype(int)):
        of_class = np.flatnonzero(labels == given)
        suspected[of_class[np.argsort(confidence[of_class], kind="stable")[:errors]]] = True
    images = np.flatnonzero(suspected & (margin < 0))
    images = images[np.argsort(margin[images], kind="stable")]
    return LabelErrors(joint, images, suggested[images])
