"""What is wrong with the images of a data set, in plain sentences with what to do about it.

A `fault` makes scores wrong or training pointless if nothing is done; a `note` is worth knowing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Int64, Labels
from tasks.core.data.frames import Frames
from tasks.core.data.image_survey import Survey
from tasks.core.data.turned_images import Part, change_of
from tasks.core.data.unlike_classes import Pixels, unlike_classes
from tasks.core.messages import listed
from tasks.core.names import TEST, TRAIN, VALIDATION

# A class with fewer images in a split has scores that say nothing.
FEW = 5
# How many times as many images the largest class has as the smallest.
UNBALANCED = 10
# The share of images with near duplicates: in the other split, and two or more in their own.
NEAR_ACROSS, NEAR_WITHIN, MANY = 0.05, 0.25, 2
# Images of one class follow each other more often than ten times what chance makes of it.
SORTED, FEWEST_SORTED = 0.1, 20
WHOLE = "all"
NAMES = {
    WHOLE: "images",
    TRAIN: "training images",
    VALIDATION: "validation images",
    TEST: "test images",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the images, or worth knowing.

    Attributes:
        kind: what it is, in a word, for programs.
        level: `fault` or `note`.
        sentence: what it is, for people.
        advice: what to do about it.
        images: positions of images that show it, those that belong together next to each other.
    """

    kind: str
    level: Literal["fault", "note"]
    sentence: str
    advice: str
    images: Int64 = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class LabelledSurvey:
    """All images of a data set, its training images before its test images.

    Attributes:
        survey: what is known of their pixels, of `n` images.
        labels: `(n,)` class indices.
        parts: the positions of the images of each split that the data set itself defines, those
            of its training images first; all of them as `WHOLE` if it defines none.
        rows: `(n,)` their places in the data set; None if these mean nothing, as those of files.
        class_names: the classes.
    """

    survey: Survey
    labels: Labels
    parts: Mapping[str, Int64]
    rows: Int64 | None
    class_names: Sequence[str]

    @cached_property
    def copies(self) -> Int64:
        """`(n,)` numbers, the same for equal images."""
        found: Int64 = np.unique(self.survey.digests, return_inverse=True)[1].astype(np.int64)
        return found

    def thumbnails(self, part: str) -> Part:
        """The thumbnails of a part's images, with their labels."""
        chosen = np.isin(self.survey.shown, self.parts[part])
        return Part(self.survey.thumbnails[chosen], self.labels[self.survey.shown[chosen]])

    def pixels(self, part: str) -> Pixels:
        """The brightness and contrast of a part's images, with their labels."""
        at, survey = self.parts[part], self.survey
        return Pixels(survey.brightness[at], survey.contrast[at], self.labels[at])

    def named(self, labels: NDArray[np.integer]) -> str:
        """Classes by name."""
        return listed([f"'{self.class_names[label]}'" for label in labels])


def copies_within(data: LabelledSurvey) -> list[dict[str, int | str]]:
    """Equal images within each part and between two: of the same class and of another.

    The numbers are of images that equal an earlier one of the part, or one of the other part.
    """
    rows: list[dict[str, int | str]] = []
    names = list(data.parts)
    for one, other in [*zip(names, names, strict=True), *combinations(names, 2)]:
        at = data.parts[other]
        if one == other:
            _, first = np.unique(data.copies[at], return_index=True)
            again, earlier = np.delete(at, first), at[first]
        else:
            again, earlier = at, data.parts[one]
        again = again[np.isin(data.copies[again], data.copies[earlier])]
        same = np.isin(_labelled(data, again), _labelled(data, earlier))
        rows.append(
            {
                "split": one,
                "other_split": other,
                "same_label": int(same.sum()),
                "other_label": int((~same).sum()),
            }
        )
    return rows


def _labelled(data: LabelledSurvey, at: Int64) -> Int64:
    """Numbers, the same for equal images of one class."""
    found: Int64 = data.copies[at] * len(data.class_names) + data.labels[at]
    return found


def find_two_labels(data: LabelledSurvey) -> Iterator[Finding]:
    """Equal images of different classes; not blank ones, which are a finding of their own."""
    pairs = np.unique(np.column_stack([data.copies, data.labels]), axis=0)
    numbers, counts = np.unique(pairs[:, 0], return_counts=True)
    varied = data.survey.contrast > 0
    several = np.flatnonzero(np.isin(data.copies, numbers[counts > 1]) & varied)
    if not len(several):
        return
    images = several[np.lexsort((several, data.copies[several]))]
    count = len(np.unique(data.copies[several]))
    what = "image occurs" if count == 1 else "images occur"
    example = data.named(
        np.unique(data.labels[images[data.copies[images] == data.copies[images[0]]]])
    )
    yield Finding(
        "two_labels",
        "fault",
        f"{count:,} {what} with different labels, e.g. {example}: all pixels are equal.",
        "Decide on one label for each, or remove them.",
        images,
    )


def find_two_splits(data: LabelledSurvey, *, dropped: bool) -> Iterator[Finding]:
    """Equal images in two parts; `dropped` if the run leaves them out of all parts but one."""
    for one, other in combinations(data.parts, 2):
        first, second = data.parts[one], data.parts[other]
        twice = second[np.isin(data.copies[second], data.copies[first])]
        if not len(twice):
            continue
        partners = first[np.isin(data.copies[first], data.copies[twice])]
        images = np.concatenate([partners, twice])
        yield Finding(
            "two_splits",
            "note" if dropped else "fault",
            f"{len(twice):,} of {len(second):,} {NAMES[other]} are {NAMES[one]}, too: "
            "all pixels are equal.",
            "Runs keep each in one split only (guard.exact=drop); remove them if others use the "
            "data."
            if dropped
            else "Set guard.exact=drop, or remove them: scores on them say nothing.",
            images[np.lexsort((images, data.copies[images]))],
        )


def find_blank(data: LabelledSurvey) -> Iterator[Finding]:
    """Images of one colour throughout."""
    blank = np.flatnonzero(data.survey.contrast == 0)
    if len(blank):
        what = "image is" if len(blank) == 1 else "images are"
        yield Finding(
            "blank",
            "fault",
            f"{len(blank):,} {what} blank, one colour throughout (of class "
            f"{data.named(np.unique(data.labels[blank]))}).",
            "Replace or remove them.",
            blank,
        )


def find_unreadable(reading: Mapping[str, Any]) -> Iterator[Finding]:
    """Pictures that can't be read; `reading` is what `load` stores of the user's own images."""
    count = reading.get("unreadable_count", 0)
    if count:
        what = "picture" if count == 1 else "pictures"
        named = listed([row["name"] for row in reading["unreadable"]])
        yield Finding(
            "unreadable",
            "note",
            f"{count:,} {what} can't be read and were left out: {named}.",
            "Replace or remove them.",
        )


def find_few(counts: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> Iterator[Finding]:
    """Classes with few images in a split of the run; `counts` are by split, then by class."""
    few = {
        name: [f"{split} {counts[split][at]}" for split in counts if counts[split][at] < FEW]
        for at, name in enumerate(class_names)
    }
    few = {name: places for name, places in few.items() if places}
    if few:
        what = "class has" if len(few) == 1 else "classes have"
        named = [f"'{name}' ({', '.join(places)})" for name, places in few.items()]
        yield Finding(
            "few_images",
            "fault",
            f"{len(few):,} {what} fewer than {FEW} images in a split: {listed(named)}.",
            "Add images or leave the classes out: they are hardly learned, and their scores say "
            "nothing.",
        )


def find_imbalance(counts: Sequence[int], class_names: Sequence[str]) -> Iterator[Finding]:
    """Training images of the largest and the smallest class; `counts` are by class."""
    most, least = int(np.argmax(counts)), int(np.argmin(counts))
    if counts[most] >= UNBALANCED * counts[least]:
        yield Finding(
            "imbalance",
            "note",
            f"The classes are unbalanced: '{class_names[most]}' has {counts[most]:,} training "
            f"images, '{class_names[least]}' {counts[least]:,}.",
            "Accuracy hides a class that is never predicted: judge by --metric balanced_accuracy, "
            "and let rare classes count more by --set class_weight=balanced.",
        )


def find_sorted(data: LabelledSurvey) -> Iterator[Finding]:
    """Parts whose images are sorted by class, in the order of the data set."""
    if data.rows is None:
        return
    names = []
    for part, at in data.parts.items():
        labels = data.labels[at[np.argsort(data.rows[at], kind="stable")]].astype(np.int64)
        shares = np.bincount(labels) / max(len(labels), 1)
        classes = np.count_nonzero(shares)
        changes = np.count_nonzero(np.diff(labels))
        by_chance = len(labels) * (1 - np.square(shares).sum())
        enough = len(labels) >= FEWEST_SORTED and by_chance > 2 * classes
        if enough and changes <= max(classes - 1, SORTED * by_chance):
            names.append(NAMES[part])
    if names:
        yield Finding(
            "sorted",
            "note",
            f"The {' and the '.join(names)} are sorted by class, or nearly so.",
            "Shuffle them before you split them by position. Splits that fashion-flow draws are "
            "not affected; subset.method=slices is.",
        )


def find_unlike_parts(data: LabelledSurvey) -> Iterator[Finding]:
    """Parts that are turned or inverted against the first, and classes that look unlike there."""
    first, *others = data.parts
    reference = data.thumbnails(first)
    for name in others:
        part, images = data.thumbnails(name), data.parts[name]
        change = change_of(part, reference)
        if change:
            yield Finding(
                "changed_split",
                "fault",
                f"The {NAMES[name]} are {change.name}, compared with the {NAMES[first]}.",
                f"Undo it in one of the two: with arrays x, {change.remedy}.",
                _alternating(data, images, data.parts[first]),
            )
            continue
        unlike = unlike_classes(part, reference, data.pixels(name), data.pixels(first))
        if unlike:
            named = [f"'{data.class_names[one.label]}' ({one.how})" for one in unlike]
            mine = images[np.isin(data.labels[images], [one.label for one in unlike])]
            what = "1 class looks" if len(unlike) == 1 else f"{len(unlike):,} classes look"
            yield Finding(
                "unlike_classes",
                "fault",
                f"{what} wholly unlike in the {NAMES[name]} and in the {NAMES[first]}: "
                f"{listed(named)}.",
                "Look at both, and at how each was made: what is learned from one does not hold "
                "for the other.",
                _alternating(data, mine, data.parts[first]),
            )


def _alternating(data: LabelledSurvey, images: Int64, others: Int64) -> Int64:
    """Up to five images of different classes, before each another of its class."""
    classes, first = np.unique(data.labels[images], return_index=True)
    found: list[int] = []
    for label, at in zip(classes[:5], images[first[:5]], strict=True):
        found += [int(others[np.argmax(data.labels[others] == label)]), int(at)]
    return np.array(found, np.int64)


def find_near_across(near: Int64, tested: int, images: Int64) -> Iterator[Finding]:
    """Test images with a near duplicate in training.

    Args:
        near: `(m,)` the test images that have one.
        tested: how many test images the run has.
        images: the most similar pairs, for the picture.
    """
    if len(near) >= NEAR_ACROSS * tested:
        yield Finding(
            "near_duplicates",
            "fault",
            f"{len(near):,} of {tested:,} test images have a near duplicate among the training or "
            "validation images.",
            "Look at the pairs. If they show the same object, give it a group (a column called "
            "group), so that it stays in one split.",
            images,
        )


def find_many_frames(frames: Frames, positions: Int64) -> Iterator[Finding]:
    """Images with near duplicates in their own split; `positions` are those of the split's."""
    many = frames.others >= MANY
    if len(many) and many.mean() >= NEAR_WITHIN:
        typical = int(np.median(frames.others[many]))
        first = frames.sampled[many][0]
        alike = np.append(first, frames.second[frames.first == first])
        yield Finding(
            "frames",
            "fault",
            f"{many.mean():.0%} of the training images (of a sample of {len(many):,}) have at "
            f"least {MANY} near duplicates in training, half of them {typical:,} or more among "
            f"{frames.among:,} images: they look like frames of the same objects.",
            "Give each object a group (a column called group, docs/data.md), so that all of its "
            "images stay in one split; else scores are too good.",
            positions[alike],
        )
