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
    traits = list(collection.images.traits())
    assert len(traits) == len(collection.entries)
    assert not isinstance(traits[0], Unusable)
    height, width, channels, white = traits[0]
    frame = Frame(height, width, channels, white=white)
    found = list(collection.images.decoded(frame))
    assert len(found) == len(traits)
    # A second pass gives the same, e.g. for another size.
    for first, second in zip(found, collection.images.decoded(frame), strict=True):
        assert not isinstance(first, Unusable)
        assert not isinstance(second, Unusable)
        np.testing.assert_array_equal(first, second)
    images = np.stack([image for image in found if not isinstance(image, Unusable)])
    assert images.dtype == np.uint8
    return images
