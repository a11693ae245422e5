"""Augmentation: Keras's `ImageDataGenerator`, transform by transform, and what it leaves alone."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from tasks.core.settings.training import AugmentSettings
from tasks.core.training.augment import Transforms, apply_transforms, augment, draw_transforms

NOTEBOOK = AugmentSettings(
    rotation_range=40,
    width_shift_range=0.2,
    height_shift_range=0.2,
    shear_range=0.2,
    zoom_range=0.2,
    horizontal_flip=True,
)
NOTHING = AugmentSettings(
    rotation_range=0,
    width_shift_range=0,
    height_shift_range=0,
    shear_range=0,
    zoom_range=0,
    horizontal_flip=False,
)
WILD = AugmentSettings(
    rotation_range=180,
    width_shift_range=0.9,
    height_shift_range=0.9,
    shear_range=60,
    zoom_range=0.8,
    horizontal_flip=True,
)
# Keras 3.15 still goes through this namespace; SciPy announces its end with every call.
ignore_scipy_namespace = pytest.mark.filterwarnings(
    "ignore:.*scipy.ndimage.interpolation.*:DeprecationWarning"
)

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(
    st.integers(0, 5), st.integers(1, 12), st.integers(1, 12), st.sampled_from((1, 3))
)
any_settings = st.builds(
    AugmentSettings,
    rotation_range=st.floats(0, 180),
    width_shift_range=st.floats(0, 0.99),
    height_shift_range=st.floats(0, 0.99),
    shear_range=st.floats(0, 80),
    zoom_range=st.floats(0, 0.99),
    horizontal_flip=st.booleans(),
)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_images(seed: int, *shape: int) -> NDArray[np.float32]:
    return rng(seed).random(shape, dtype=np.float32)


def keras_generator(wanted: AugmentSettings) -> Any:
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(**wanted.model_dump())


def as_keras_parameters(drawn: Transforms, i: int, height: int, width: int) -> dict[str, Any]:
    return {
        "theta": drawn.rotation[i],
        "tx": drawn.height_shift[i] * height,
        "ty": drawn.width_shift[i] * width,
        "shear": drawn.shear[i],
        "zx": drawn.zoom_x[i],
        "zy": drawn.zoom_y[i],
        "flip_horizontal": drawn.flip[i],
    }


@ignore_scipy_namespace
@pytest.mark.parametrize("wanted", [NOTEBOOK, WILD, NOTHING], ids=["notebook", "wild", "nothing"])
@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (28, 28, 3), (20, 31, 1), (33, 17, 3), (1, 9, 1), (9, 1, 3), (2, 2, 1)]
)
def test_equals_keras_for_the_same_parameters(
    wanted: AugmentSettings, shape: tuple[int, int, int]
) -> None:
    images = random_images(1, 40, *shape)
    drawn = draw_transforms(40, wanted, rng(2))

    keras = keras_generator(wanted)
    expected = [
        keras.apply_transform(image, as_keras_parameters(drawn, i, *shape[:2]))
        for i, image in enumerate(images)
    ]

    np.testing.assert_allclose(apply_transforms(images, drawn), expected, rtol=0, atol=1e-5)


def test_draws_are_distributed_as_keras_draws_them() -> None:
    n, height, width = 2000, 28, 40
    keras = keras_generator(NOTEBOOK)
    np.random.seed(0)
    theirs = [keras.get_random_transform((height, width, 1)) for _ in range(n)]
    drawn = draw_transforms(n, NOTEBOOK, rng(0))
    ours = [as_keras_parameters(drawn, i, height, width) for i in range(n)]

    for name in ("theta", "tx", "ty", "shear", "zx", "zy"):
        same = ks_2samp([one[name] for one in ours], [one[name] for one in theirs])
        assert same.pvalue > 0.01, name
    assert 0.45 < np.mean([one["flip_horizontal"] for one in ours]) < 0.55


def test_parameters_are_drawn_independently_of_each_other() -> None:
    drawn = draw_transforms(4000, NOTEBOOK, rng(0))
    columns = np.stack([getattr(drawn, field.name) for field in fields(drawn)]).astype(float)
    assert np.abs(np.corrcoef(columns) - np.eye(7)).max() < 0.06


@settings(max_examples=50, deadline=None)
@given(any_settings, seeds)
def test_draws_stay_within_their_ranges(wanted: AugmentSettings, seed: int) -> None:
    drawn = draw_transforms(50, wanted, rng(seed))
    for values, limit in (
        (drawn.rotation, wanted.rotation_range),
        (drawn.height_shift, wanted.height_shift_range),
        (drawn.width_shift, wanted.width_shift_range),
        (drawn.shear, wanted.shear_range),
        (drawn.zoom_x - 1, wanted.zoom_range),
        (drawn.zoom_y - 1, wanted.zoom_range),
    ):
        assert np.abs(values).max() <= limit + 1e-12
    assert wanted.horizontal_flip or not drawn.flip.any()


@given(st.integers(0, 20), st.integers(0, 20), seeds)
def test_drawing_more_transforms_keeps_the_first_ones(fewer: int, more: int, seed: int) -> None:
    fewer, more = sorted((fewer, more))
    short, long = (draw_transforms(n, NOTEBOOK, rng(seed)) for n in (fewer, more))
    for field in fields(Transforms):
        np.testing.assert_array_equal(getattr(long, field.name)[:fewer], getattr(short, field.name))


def test_turning_off_one_transform_does_not_change_the_others() -> None:
    drawn = draw_transforms(30, NOTEBOOK, rng(0))
    without = draw_transforms(30, NOTEBOOK.model_copy(update={"rotation_range": 0.0}), rng(0))
    assert not without.rotation.any()
    for field in fields(Transforms):
        if field.name != "rotation":
            np.testing.assert_array_equal(getattr(drawn, field.name), getattr(without, field.name))


@settings(max_examples=60, deadline=None)
@given(shapes, any_settings, seeds)
def test_the_result_keeps_shape_dtype_and_range_and_the_input_is_not_modified(
    shape: tuple[int, int, int, int], wanted: AugmentSettings, seed: int
) -> None:
    images = random_images(seed, *shape)
    before = images.copy()
    images.setflags(write=False)

    result = augment(images, wanted, rng(seed))

    assert result.shape == shape
    assert result.dtype == np.float32
    assert not np.shares_memory(result, images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(result, augment(images, wanted, rng(seed)))
    per_image = (1, 2, 3)
    if len(images):
        assert (result.min(per_image) >= images.min(per_image) - 1e-6).all()
        assert (result.max(per_image) <= images.max(per_image) + 1e-6).all()


def test_another_state_of_the_generator_gives_other_images() -> None:
    images, generator = random_images(0, 5, 28, 28, 1), rng(0)
    first, second = (augment(images, NOTEBOOK, generator) for _ in range(2))
    assert (first != second).any((1, 2, 3)).all()


def test_without_transforms_nothing_changes() -> None:
    images = random_images(0, 6, 11, 14, 3)
    np.testing.assert_array_equal(augment(images, NOTHING, rng(0)), images)


def test_flip_alone_mirrors_left_to_right() -> None:
    images = random_images(0, 64, 5, 7, 1)
    only_flip = NOTHING.model_copy(update={"horizontal_flip": True})
    flipped = draw_transforms(64, only_flip, rng(3)).flip
    result = augment(images, only_flip, rng(3))
    assert 0 < flipped.sum() < 64
    np.testing.assert_array_equal(result[flipped], images[flipped, :, ::-1])
    np.testing.assert_array_equal(result[~flipped], images[~flipped])


def test_images_are_transformed_independently_of_each_other() -> None:
    images = random_images(0, 600, 28, 28, 1)
    together = augment(images, NOTEBOOK, rng(0))
    drawn = draw_transforms(600, NOTEBOOK, rng(0))
    for i in (0, 254, 255, 256, 599):
        alone = Transforms(*(getattr(drawn, field.name)[[i]] for field in fields(drawn)))
        np.testing.assert_array_equal(apply_transforms(images[[i]], alone)[0], together[i])


def test_a_view_of_other_memory_order_is_read_correctly() -> None:
    images = random_images(0, 4, 10, 12, 3)
    view = np.asfortranarray(images)
    np.testing.assert_array_equal(augment(view, WILD, rng(0)), augment(images, WILD, rng(0)))


def test_a_shift_repeats_the_edge_pixels() -> None:
    images = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    still = draw_transforms(1, NOTHING, rng(0))
    shifted = apply_transforms(images, replace(still, height_shift=np.array([0.5])))
    assert shifted[0, :, :, 0].tolist() == [
        [row * 4 + column for column in (2, 3, 3, 3)] for row in range(4)
    ]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 28, 28), np.float32), r"shape \(3, 28, 28\)"),
        (np.zeros((3, 28, 28, 1), np.uint8), "dtype uint8"),
        (np.zeros((2, 28, 28, 1), np.float32), "2 images but 3 transforms"),
    ],
)
def test_wrong_arrays_are_refused(images: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_transforms(images, draw_transforms(3, NOTEBOOK, rng(0)))
