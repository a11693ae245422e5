"""What a reader makes of a data set, for its tests."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tasks.core.array_types import UInt8
from tasks.core.data.photographs import Frame
from tasks.sources.collection import Collection, Unusable


def labels_of(collection: Collection, split: str | None = None) -> list[str]:
    return [entry.label for entry in collection.entries if entry.split == split]


def counts_of(collection: Collection) -> dict[str | None, int]:
    return dict(Counter(entry.split for entry in collection.entries))


def images_of(collection: Collection) -> UInt8:
    """All images in the first one's frame: `(n, h, w, c)`."""
    shapes = list(collection.images.shapes())
    assert len(shapes) == len(collection.entries)
    assert not isinstance(shapes[0], Unusable)
    found = list(collection.images.decoded(Frame(*shapes[0])))
    assert len(found) == len(shapes)
    # A second pass gives the same, e.g. for another size.
    for first, second in zip(found, collection.images.decoded(Frame(*shapes[0])), strict=True):
        assert not isinstance(first, Unusable)
        assert not isinstance(second, Unusable)
        np.testing.assert_array_equal(first, second)
    images = np.stack([image for image in found if not isinstance(image, Unusable)])
    assert images.dtype == np.uint8
    return images
