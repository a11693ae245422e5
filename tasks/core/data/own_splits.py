"""Splits of a user's own images: seeded draws that keep copies and groups together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Bool, Int64, Labels
from tasks.core.data.splitting import Indices, stratified_order
from tasks.core.errors import UserError
from tasks.core.messages import classes_listed
from tasks.core.seeds import generator
from tasks.core.settings.images import SubsetSettings

# The share of a split that is drawn if none is given: the notebook holds out a sixth, too.
HELD_OUT = 1 / 6

Size = int | float | None


@dataclass(frozen=True)
class Members:
    """Images from which splits are drawn.

    `labels`: `(n,)` class indices. `units`: `(n,)`, equal for images that must not be separated.
    """

    labels: Labels
    units: Int64

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: Int64) -> Members:
        """Some of the images."""
        return Members(self.labels[positions], self.units[positions])


def units_of(digests: NDArray[np.void], groups: Int64 | None) -> Int64:
    """`(n,)` units: copies of an image are in one, and images of a group; -1 is no group."""
    _, copies = np.unique(digests, return_inverse=True)
    if groups is None:
        return copies.astype(np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Nodes are images, then sets of copies, then groups.
    count = len(digests)
    grouped = np.flatnonzero(groups >= 0)
    ends = np.concatenate([count + copies, count + copies.max() + 1 + groups[grouped]])
    starts = np.concatenate([np.arange(count), grouped])
    size = int(ends.max()) + 1
    graph = coo_array((np.ones(len(ends)), (starts, ends)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:count].astype(np.int64)


def size_of(size: Size, total: int) -> int:
    """How many of `total` images a setting means: a number of at most all, a share, or all."""
    if size is None:
        return total
    return min(total, size if isinstance(size, int) else max(1, round(total * size)))


def held_out_size(members: Members, size: Size) -> int:
    """How many images a drawn split gets: a sixth by default, but one for each class.

    A number is at most a third, so that most images remain for training.
    """
    total = len(members)
    if isinstance(size, int):
        return max(1, min(size, total // 3))
    if size is not None:
        return size_of(size, total)
    return max(size_of(HELD_OUT, total), len(np.unique(members.labels)))


def drawn(members: Members, count: int, seed: int, purpose: str) -> Bool:
    """`(n,)`: a stratified sample of about `count` images that consists of whole units.

    Units take part with the class of their first image. The sample has exactly `count` images if
    every unit has one, and has all classes if `count` allows it, however rare they are.
    """
    _, first, unit, sizes = np.unique(
        members.units, return_index=True, return_inverse=True, return_counts=True
    )
    order = stratified_order(members.labels[first], generator(seed, f"{purpose} split"))
    _, foremost = np.unique(members.labels[first][order], return_index=True)
    order = np.concatenate([order[np.sort(foremost)], np.delete(order, foremost)])
    taken = np.zeros(len(first), bool)
    left = count
    for place in order:
        # A unit that is too large by more than half of it is left out.
        if left > 0 and sizes[place] <= 2 * left:
            taken[place] = True
            left -= int(sizes[place])
    found: Bool = taken[unit]
    return found


def advice(pool: Members, setting: str) -> str:
    """What to do about a class that a split lacks which was drawn from a pool by a setting."""
    together = len(np.unique(pool.units)) < len(pool)
    kept = "; copies of an image, and images of a group, stay in one split" if together else ""
    least = np.bincount(np.unique(pool.labels, return_inverse=True)[1]).min()
    return f"add images (the smallest class has {least:,}), or change subset.{setting}{kept}"


def check_classes(labels: Labels, class_names: Sequence[str], split: str, advice: str) -> None:
    """Refuse a split in which a class has no image.

    Raises:
        UserError: there is such a class.
    """
    missing = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if len(missing):
        images = "image" if len(labels) == 1 else "images"
        raise UserError(
            f"the {split} split of {len(labels):,} {images} has none of "
            f"{classes_listed(missing, class_names)}; {advice}."
        )


def choose_own(
    pool: Members,
    test_labels: Labels,
    class_names: Sequence[str],
    settings: SubsetSettings,
    *,
    validation: int,
    test_drawn: bool,
) -> Indices:
    """Choose the images of each split, in a stratified order, which is random but seeded.

    Args:
        pool: the raw training images.
        test_labels: the labels of the raw test images.
        class_names: the classes.
        settings: the sizes and the seed; a size limits a split that the data set defines.
        validation: how many of the last images of the pool the data set has for validation.
        test_drawn: whether the test images are a sample that already has its size.

    Raises:
        UserError: a class gets no image in a split.
    """
    sizes = settings if settings.method != "everything" else SubsetSettings()
    seed = settings.seed
    rest, held_out = np.split(np.arange(len(pool)), [len(pool) - validation])
    if validation:
        held_out = _some(pool, held_out, sizes.validation, seed, "validation")
    else:
        among = pool.at(rest)
        taken = drawn(among, held_out_size(among, sizes.validation), seed, "validation")
        rest, held_out = rest[~taken], rest[taken]
    test = Members(test_labels, np.arange(len(test_labels)))
    test_size = sizes.test if isinstance(sizes.test, int) or not test_drawn else None
    chosen = Indices(
        _some(pool, rest, sizes.train, seed, "training"),
        _ordered(pool, held_out, seed),
        _some(test, test.units, test_size, seed, "test"),
    )
    for split, setting, labels in (
        ("training", "train", pool.labels[chosen.train]),
        ("validation", "validation", pool.labels[chosen.validation]),
        ("test", "test", test_labels[chosen.test]),
    ):
        check_classes(labels, class_names, split, advice(pool, setting))
    return chosen


def _some(pool: Members, positions: Int64, size: Size, seed: int, purpose: str) -> Int64:
    """A stratified sample of these positions, in a stratified order."""
    count = size_of(size, len(positions))
    if count < len(positions):
        positions = positions[drawn(pool.at(positions), count, seed, purpose)]
    return _ordered(pool, positions, seed)


def _ordered(pool: Members, positions: Int64, seed: int) -> Int64:
    order = stratified_order(pool.labels[positions], generator(seed, "order of splits"))
    return positions[order]
