"""Variations of training images depend on seed, image and epoch alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.settings.optimization import VariationSettings
from tasks.core.training.variation import draw_variation

IMAGES = np.random.default_rng(0).random((20, 7, 6, 2)).astype(np.float32)
ALL = np.arange(len(IMAGES))


def varied(epoch: int = 1, seed: int = 0, chosen: Any = ALL, **settings: Any) -> Any:
    variation = draw_variation(len(IMAGES), VariationSettings(**settings), seed, epoch)
    assert variation is not None
    return variation.applied(IMAGES[chosen], chosen)


def test_without_settings_there_is_no_variation() -> None:
    assert draw_variation(5, VariationSettings(), 0, 1) is None


@pytest.mark.parametrize("flip", ["random", "alternating"])
def test_flipped_images_are_mirror_images(flip: str) -> None:
    found = varied(flip=flip)
    mirrored = (found == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (found == IMAGES).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 0 < mirrored.sum() < len(IMAGES)


def test_alternating_flips_show_each_image_once_each_way_in_two_epochs() -> None:
    for epoch in (1, 2, 7):
        one, other = varied(epoch, flip="alternating"), varied(epoch + 1, flip="alternating")
        assert (one == other[:, :, ::-1]).all()
        assert (one == varied(epoch + 2, flip="alternating")).all()


@given(seed=st.integers(0, 9), epoch=st.integers(1, 5), chosen=st.permutations(range(len(IMAGES))))
def test_an_image_is_varied_alike_in_any_batch(seed: int, epoch: int, chosen: list[int]) -> None:
    settings: dict[str, Any] = {"flip": "random", "shift": 2, "erase": 3}
    whole = varied(epoch, seed, **settings)
    some = np.array(chosen[:7])
    assert (varied(epoch, seed, some, **settings) == whole[some]).all()


def test_shifted_images_reflect_at_their_edges() -> None:
    variation = draw_variation(len(IMAGES), VariationSettings(shift=2), 0, 1)
    assert variation is not None
    assert variation.shift is not None
    found = variation.applied(IMAGES, ALL)
    assert set(variation.shift.ravel().tolist()) == {-2, -1, 0, 1, 2}
    for image, result, (down, right) in zip(IMAGES, found, variation.shift, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        top, left = 2 - down, 2 - right
        assert (result == padded[top : top + 7, left : left + 6]).all()


def test_images_of_one_pixel_can_be_shifted() -> None:
    variation = draw_variation(3, VariationSettings(shift=4), 0, 1)
    assert variation is not None
    one = np.ones((3, 1, 1, 1), np.float32)
    assert (variation.applied(one, np.arange(3)) == one).all()


def test_an_erased_square_is_black_and_no_larger() -> None:
    black = varied(erase=3)[..., 0] == 0
    assert black.any(axis=(1, 2)).all()
    for image in black:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert np.ptp(rows) < 3
        assert np.ptp(columns) < 3
        assert image.sum() == len(rows) * len(columns)


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1, "cutmix": 1}])
def test_labels_are_mixed_like_pixels(settings: dict[str, float]) -> None:
    """Of white images mixed with black ones, the mean brightness is the share of the white."""
    labels = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    images = np.broadcast_to(labels[:, :1, None, None], (20, 9, 9, 1)).astype(np.float32)
    variation = draw_variation(20, VariationSettings(**settings), 0, 1)
    assert variation is not None
    shares = set()
    for step in range(20):
        x, y = variation.mixed(step, images, labels)
        np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), y[:, 0], atol=1e-6)
        np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
        again = variation.mixed(step, images, labels)
        assert (again[0] == x).all()
        shares.add(float(y[0, 0]))
    assert len(shares) > 10
    assert (images == np.broadcast_to(labels[:, :1, None, None], images.shape)).all()


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_label_keeps_the_weight_of_its_image(settings: dict[str, float]) -> None:
    labels = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    weights = np.repeat(np.array([10, 1], np.float32), 10)
    images = np.zeros((20, 9, 9, 1), np.float32)
    variation = draw_variation(20, VariationSettings(**settings), 0, 1)
    assert variation is not None
    for step in range(5):
        _, plain = variation.mixed(step, images, labels)
        _, y, weight = variation.mixed(step, images, labels, weights)
        np.testing.assert_allclose(y * weight[:, None], plain * [10, 1], rtol=1e-5)
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
