"""Scaling, one-hot labels and the background of images."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.core.data.preprocessing import background_brightness, one_hot, scaled


def test_images_are_scaled_as_in_the_notebook() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = scaled(images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images.astype("float32") / 255)
    assert (found.min(), found.max()) == (0, 1)
    assert images.dtype == np.uint8
    # Rounding restores each pixel, e.g. for VGG16, which needs 0 to 255.
    np.testing.assert_array_equal(np.rint(found * 255).astype(np.uint8), images)


def test_labels_become_one_hot() -> None:
    found = one_hot(np.array([2, 0], np.uint8), 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0, 0, 1, 0], [1, 0, 0, 0]])


def test_the_background_is_the_median_of_the_borders() -> None:
    images = np.zeros((5, 6, 7, 1), np.uint8)
    images[:, 1:-1, 1:-1] = 200
    assert background_brightness(images) == 0
    assert background_brightness(255 - images) == 1
    images[:2] = 255
    images[:, 0, 0] = 99
    assert background_brightness(images) == 0, "neither two images of five nor a corner change it"
    colour = np.full((3, 4, 4, 3), 51, np.uint8)
    assert background_brightness(colour) == pytest.approx(0.2)
