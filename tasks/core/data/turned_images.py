"""Whether a part of a data set is turned, mirrored, transposed or inverted against another.

Two parts are compared by their classes. An image's score is the correlation of its thumbnail with
the mean thumbnail of its class in the reference. If the images of a part were transposed, their
scores rise once they are transposed back, by as much as those of the reference would fall (of each
image there, the mean is taken over the others of its class). Nothing is said of images that look
much the same either way, nor of a data set that is transposed as a whole: what is upright can't be
known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Float32, Float64, Labels


@dataclass(frozen=True)
class Change:
    """A change of a set of images.

    Attributes:
        name: what was done to the images, in words.
        remedy: the expression that undoes it, for arrays `x` of shape `(n, height, width, ...)`.
        undo: undoes it, on `(n, h, w)`.
        square: whether only squares keep their shape.
    """

    name: str
    remedy: str
    undo: Callable[[Float32], Float32]
    square: bool = False


CHANGES = (
    Change("inverted (dark for light)", "255 - x", lambda x: -x),
    Change("mirrored left to right", "x[:, :, ::-1]", lambda x: x[:, :, ::-1]),
    Change("mirrored top to bottom", "x[:, ::-1]", lambda x: x[:, ::-1]),
    Change("turned by 180 degrees", "x[:, ::-1, ::-1]", lambda x: x[:, ::-1, ::-1]),
    Change(
        "transposed (rows and columns exchanged)",
        "x.swapaxes(1, 2)",
        lambda x: x.swapaxes(1, 2),
        square=True,
    ),
    Change(
        "transposed along the other diagonal",
        "x[:, ::-1, ::-1].swapaxes(1, 2)",
        lambda x: x[:, ::-1, ::-1].swapaxes(1, 2),
        square=True,
    ),
    Change(
        "turned by 90 degrees to the right",
        "np.rot90(x, 1, (1, 2))",
        lambda x: np.rot90(x, 1, (1, 2)),
        square=True,
    ),
    Change(
        "turned by 90 degrees to the left",
        "np.rot90(x, -1, (1, 2))",
        lambda x: np.rot90(x, -1, (1, 2)),
        square=True,
    ),
)

# The scores must rise by this share of what the reference's would fall, and that must be this much.
_SHARE, _LEAST = 0.5, 0.05
# The rise divided by its standard error, which five images estimate badly.
_SURE, _FEWEST = 8.0, 10
# So many standard errors make one change better than another.
_CLEARLY = 3.0


@dataclass(frozen=True)
class Part:
    """Images of a part of a data set: thumbnails `(n, h, w)` as in `Survey`, labels `(n,)`."""

    thumbnails: Float32
    labels: Labels


def change_of(part: Part, reference: Part) -> Change | None:
    """How the images of a part were changed against those of the reference; None if they were not.

    Of several changes that explain them, the first after which the scores are not clearly lower
    than after another.
    """
    common = np.intersect1d(part.labels, reference.labels)
    part, reference = _of_classes(part, common), _of_classes(reference, common)
    if len(part.labels) < _FEWEST or len(reference.labels) < _FEWEST:
        return None
    height, width = part.thumbnails.shape[1:]
    as_it_is, expected = scores(part, reference), scores(reference, reference)
    best, found = np.zeros(len(as_it_is)), None
    for change in CHANGES:
        if change.square and height != width:
            continue
        rise = scores(part, reference, change) - as_it_is
        fall = expected - scores(reference, reference, change)
        # As many images of each class as the part has.
        wanted = _SHARE * _weighted(fall, reference.labels, part.labels)
        explains = rise.mean() > max(wanted, _LEAST) and _above(rise, _SURE)
        if explains and _above(rise - best, _CLEARLY):
            best, found = rise, change
    return found


def _above(values: Float64, errors: float) -> bool:
    """Whether the mean is above 0 by so many standard errors."""
    return bool(values.mean() > errors * values.std(ddof=1) / np.sqrt(len(values)))


def scores(part: Part, reference: Part, change: Change | None = None) -> Float64:
    """`(n,)` each image's correlation, once a change is undone, with the mean of its class.

    If the part is the reference itself, the mean is that of the others of its class, and 0 if there
    are none.
    """
    found = np.zeros(len(part.labels))
    for label in np.unique(part.labels):
        chosen = part.labels == label
        like = reference.thumbnails[reference.labels == label]
        images = part.thumbnails[chosen]
        mine = (change.undo(images) if change else images).reshape(len(images), -1)
        total = like.sum(axis=0, dtype=np.float64).ravel()
        if part is reference:
            means = total - images.reshape(len(images), -1)
            found[chosen] = _correlations(mine, means)
        else:
            found[chosen] = _correlations(mine, total[None])
    return found


def _correlations(images: Float32, means: Float64) -> Float64:
    norms = np.sqrt(np.square(means).sum(axis=1))
    # What float32 leaves of an image minus itself is no mean.
    products: Float64 = (images * means).sum(axis=1) / np.where(norms > 1e-3, norms, np.inf)
    return products


def _of_classes(part: Part, classes: Labels) -> Part:
    chosen = np.isin(part.labels, classes)
    return part if chosen.all() else Part(part.thumbnails[chosen], part.labels[chosen])


def _weighted(values: Float64, labels: Labels, like: Labels) -> float:
    """The mean of the classes' means, weighted by how often `like` has each class."""
    classes, counts = np.unique(like, return_counts=True)
    means: Sequence[float] = [float(values[labels == label].mean()) for label in classes]
    return float(np.average(means, weights=counts))
