"""Along the axes, a copy of an image is nearer than other images."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.array_types import UInt8
from tasks.core.data.copy_axes import DIMENSIONS, changed_copies, copy_axes
from tasks.core.data.image_descriptors import DescribedImages, describe_images, principal_axes
from tasks.core.data.synthetic import draw_dataset


def described(images: UInt8, axes_of: UInt8, shift: int = 2) -> DescribedImages:
    return describe_images(images, principal_axes(axes_of, shift), shift)


def test_a_copy_that_lost_an_edge_is_the_nearest() -> None:
    """Garments that reach the edges of their images, shifted by two pixels both ways."""
    garments = draw_dataset(1_500, 1, seed=3).train.images[:, 2:-2, 2:-2].copy()
    copies = np.zeros_like(garments)
    copies[:, 2:, 2:] = garments[:, :-2, :-2]
    one, other = described(garments, garments), described(copies, garments)
    axes = copy_axes(one, np.arange(len(one)))

    def firsts(mine: np.ndarray, theirs: np.ndarray) -> float:
        mine, theirs = mine.astype(np.float32), theirs.astype(np.float32)
        apart = np.square(mine).sum(axis=1) - 2 * theirs @ mine.T
        return float((apart.argmin(axis=1) == np.arange(len(theirs))).mean())

    by_axes = firsts(axes.vectors(one.codes), axes.vectors(other.codes))
    assert by_axes > 0.99
    assert 1 - by_axes < (1 - firsts(one.codes, other.codes)) / 2


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_copies_are_shifted_darker_and_lighter(shift: int) -> None:
    images = np.full((200, 9, 9, 1), 50, np.uint8)
    images[:, 4, 4] = 230
    copies = changed_copies(images, shift)
    peaks = {
        (int(at) // 9 - 4, int(at) % 9 - 4) for at in copies.reshape(len(copies), -1).argmax(axis=1)
    }
    around = {(y, x) for y in range(-shift, shift + 1) for x in range(-shift, shift + 1)}
    assert peaks == (around - {(0, 0)} or {(0, 0)})
    assert {int(copy.max()) for copy in copies} == {138, 230, 255}
    assert {int(copy.min()) for copy in copies} == {30, 50, 90}


@pytest.mark.parametrize("count", [1, 2, 30])
def test_few_images_and_images_of_one_colour_get_axes_too(count: int) -> None:
    flat = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 6, 6, 3), np.uint8)
    rng = np.random.default_rng(0)
    varied = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    for images in (flat, varied):
        some = described(images, images)
        found = copy_axes(some, np.arange(count)).vectors(some.codes)
        assert found.shape == (count, DIMENSIONS)
        assert len(np.unique(found, axis=0)) == (count if images is varied else 1)
