"""How many near duplicates an image has in its own split, found by a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Int64
from tasks.core.data.duplicates import Search, find_duplicates
from tasks.core.data.image_descriptors import describe_images, principal_axes
from tasks.core.data.rows import Picked, RowReader
from tasks.core.errors import UserError

# So many images at equal distances are compared with so many others, which bounds time and memory.
SAMPLE, AMONG = 256, 60_000


@dataclass(frozen=True)
class Frames:
    """What a sample of a split shows.

    Attributes:
        sampled: `(m,)` positions of the sample.
        others: `(m,)` how many images are near duplicates of each, not counting its own group.
        first: positions in the split, of the sample.
        second: positions of a near duplicate of each of these.
        among: how many images the sample was compared with.
    """

    sampled: Int64
    others: Int64
    first: Int64
    second: Int64
    among: int


def find_frames(
    images: RowReader, groups: Int64 | None, least: float, shift: int, search: Search = "auto"
) -> Frames:
    """Compare a sample of a split with the whole of it, or with `AMONG` images of it.

    Args:
        images: `(n, h, w, c)` uint8.
        groups: `(n,)`, -1 for none; None if the images have no groups. Images of one group are
            known to belong together.
        least: the similarity of near duplicates, as in `find_duplicates`.
        shift: the largest shift considered.
        search: as in `find_duplicates`; with `off` there are no near duplicates.
    """
    among = _spread(len(images), AMONG)
    sampled = among[_spread(len(among), SAMPLE)]
    axes = None if search == "off" else principal_axes(Picked(images, among), shift)
    every, some = (
        describe_images(Picked(images, chosen), axes, shift) for chosen in (among, sampled)
    )
    try:
        pairs = find_duplicates(every, some, least, search)
    except UserError:
        # Too many pairs for a list: nearly all images are alike.
        return Frames(sampled, np.full(len(sampled), len(among) - 1), sampled, sampled, len(among))
    near = ~pairs.exact
    first, second = sampled[pairs.second[near]], among[pairs.first[near]]
    if groups is not None:
        apart = (groups[first] != groups[second]) | (groups[first] < 0)
        first, second = first[apart], second[apart]
    others = np.bincount(np.searchsorted(sampled, first), minlength=len(sampled))
    return Frames(sampled, others, first, second, len(among))


def _spread(count: int, most: int) -> Int64:
    """At most `most` positions of `count`, at equal distances."""
    size = min(count, most)
    return np.arange(size) * count // max(size, 1)
