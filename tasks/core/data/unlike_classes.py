"""Classes whose images look wholly unlike in two parts of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Float32, Float64, Labels
from tasks.core.data.turned_images import Part, change_of, scores

# Two sets of numbers are far apart if their means are so many standard deviations from each other
# and so many standard errors; fewer numbers are not compared.
_FAR, _SURE, _FEWEST = 3.0, 8.0, 10
# Images that resemble the mean of their class as little as this share of what others do are of
# something else, if the others do at least so much.
_SHARE, _LEAST = 0.25, 0.3


@dataclass(frozen=True)
class Pixels:
    """The brightness and contrast `(n,)` of all images of a part, and their labels."""

    brightness: Float32
    contrast: Float32
    labels: Labels


@dataclass(frozen=True)
class Unlike:
    """A class whose images look unlike those of the reference; `how` completes "they are ..."."""

    label: int
    how: str


def unlike_classes(
    part: Part, reference: Part, pixels: Pixels, reference_pixels: Pixels
) -> list[Unlike]:
    """The classes whose images in a part look wholly unlike those of the reference.

    Args:
        part: thumbnails of the part.
        reference: those of the reference.
        pixels: what is known of all images of the part.
        reference_pixels: the same of the reference.
    """
    as_it_is, expected = scores(part, reference), scores(reference, reference)
    found = []
    for label in np.intersect1d(part.labels, reference.labels).tolist():
        mine, theirs = part.labels == label, reference.labels == label
        how = _changed(part, reference, mine, theirs)
        how = how or _other_pixels(pixels, reference_pixels, label)
        how = how or _other_pictures(as_it_is[mine], expected[theirs])
        if how:
            found.append(Unlike(label, how))
    return found


def _changed(part: Part, reference: Part, mine: Labels, theirs: Labels) -> str:
    change = change_of(
        Part(part.thumbnails[mine], part.labels[mine]),
        Part(reference.thumbnails[theirs], reference.labels[theirs]),
    )
    return change.name if change else ""


def _other_pixels(pixels: Pixels, reference: Pixels, label: int) -> str:
    mine, theirs = pixels.labels == label, reference.labels == label
    for values, others, more, less in (
        (pixels.brightness, reference.brightness, "much brighter", "much darker"),
        (pixels.contrast, reference.contrast, "of much more contrast", "of much less contrast"),
    ):
        if _far(values[mine], others[theirs], _FAR):
            return more if values[mine].mean() > others[theirs].mean() else less
    return ""


def _other_pictures(values: Float64, others: Float64) -> str:
    like = others.mean()
    unlike = like >= _LEAST and values.mean() <= _SHARE * like and _far(values, others, 1.0)
    return "of something else" if unlike else ""


def _far(values: Float32 | Float64, others: Float32 | Float64, least: float) -> bool:
    if min(len(values), len(others)) < _FEWEST:
        return False
    spread = np.sqrt((values.var(ddof=1) + others.var(ddof=1)) / 2)
    error = np.sqrt(values.var(ddof=1) / len(values) + others.var(ddof=1) / len(others))
    distance = abs(float(values.mean()) - float(others.mean()))
    return bool(distance > least * spread and distance > _SURE * error and distance > 0)
