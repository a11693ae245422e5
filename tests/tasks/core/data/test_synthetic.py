"""Drawn garments: reproducible, balanced, recognisable, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES as CLASSES
from tasks.core.data.labelled_images import Dataset, Split
from tasks.core.data.synthetic import draw_dataset
from tasks.core.errors import UserError

counts = st.integers(1, 60)
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return draw_dataset(2000, 1000, seed=0)


def scaled(split: Split) -> NDArray[np.float32]:
    return split.images.astype(np.float32) / np.float32(255)


@settings(max_examples=25, deadline=None)
@given(counts, counts, seeds)
def test_any_counts_give_whole_balanced_splits(train: int, test: int, seed: int) -> None:
    drawn = draw_dataset(train, test, seed)

    assert drawn.class_names == CLASSES
    for split, count in ((drawn.train, train), (drawn.test, test)):
        assert split.images.shape == (count, 28, 28, 1)
        assert split.images.dtype == split.labels.dtype == np.uint8
        of_each = np.bincount(split.labels, minlength=10)
        assert len(of_each) == 10
        assert of_each.max() - of_each.min() <= 1


@settings(max_examples=25, deadline=None)
@given(counts, counts, counts, seeds)
def test_more_images_extend_fewer(fewer: int, more: int, test: int, seed: int) -> None:
    fewer, more = sorted((fewer, more))
    assert_extends(draw_dataset(more, test, seed), draw_dataset(fewer, test, seed))


def test_more_images_extend_fewer_over_many_blocks(dataset: Dataset) -> None:
    assert_extends(dataset, draw_dataset(1303, 1, seed=0))


def assert_extends(longer: Dataset, shorter: Dataset) -> None:
    for long, short in ((longer.train, shorter.train), (longer.test, shorter.test)):
        np.testing.assert_array_equal(long.images[: len(short)], short.images)
        np.testing.assert_array_equal(long.labels[: len(short)], short.labels)


def test_the_bytes_of_a_seed_are_pinned() -> None:
    """Stored artifacts and cache keys rest on them: change this digest only on purpose."""
    drawn = draw_dataset(40, 20, seed=0)
    digest = hashlib.sha256()
    for split in (drawn.train, drawn.test):
        digest.update(split.images.tobytes() + split.labels.tobytes())
    assert digest.hexdigest() == "2f122987077fbc8e21256b2355e1a0a84b005d753e9d069e8609fce8d41238a7"


def test_no_image_is_drawn_twice(dataset: Dataset) -> None:
    other_seed = draw_dataset(100, 100, seed=1)
    splits = (dataset.train, dataset.test, other_seed.train, other_seed.test)
    images = np.concatenate([split.images.reshape(-1, 28 * 28) for split in splits])
    assert len(np.unique(images, axis=0)) == len(images)


def test_labels_are_shuffled(dataset: Dataset) -> None:
    followers = dataset.train.labels[1:][dataset.train.labels[:-1] == 3]
    assert len(np.unique(followers)) == 10


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"]
    draw_dataset(10, 10, seed=5)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], before)


def test_garments_are_bright_on_a_black_ground(dataset: Dataset) -> None:
    images = dataset.train.images.reshape(-1, 28 * 28)
    covered = (images > 0).mean(axis=1)
    assert covered.min() > 0.08
    assert covered.max() < 0.85
    assert (images == 0).mean() > 0.4
    brightest = np.quantile(images, 0.98, axis=1)
    assert brightest.min() > 30
    assert np.median(brightest) > 130


def test_mean_garments_have_the_parts_that_name_them(dataset: Dataset) -> None:
    images, labels = scaled(dataset.train)[..., 0], dataset.train.labels
    mean = {name: images[labels == k].mean(0) for k, name in enumerate(CLASSES)}

    sleeve = (slice(15, 19), slice(2, 6))
    for long_sleeved in ("Pullover", "Coat"):
        assert mean[long_sleeved][sleeve].mean() > 3 * mean["T-shirt/top"][sleeve].mean()
    coat = mean["Coat"][8:22]
    assert coat[:, 13:15].mean() < 0.9 * coat[:, 10:12].mean()
    handle = mean["Bag"][:14]
    assert handle[:8].mean() < handle[11:].mean()
    assert mean["Ankle boot"][:10].mean() > 3 * mean["Sneaker"][:10].mean()
    assert mean["Sandal"].mean() < mean["Sneaker"].mean() < mean["Ankle boot"].mean()
    assert mean["Dress"][23:26].mean() > mean["Dress"][2:5].mean()


def test_a_trouser_has_two_legs_and_a_dress_one_skirt(dataset: Dataset) -> None:
    shins = dataset.train.images[:, 18:22, :, 0] > 40
    pieces = (shins[..., 1:] & ~shins[..., :-1]).sum(-1)
    of_class = {name: pieces[dataset.train.labels == k] for k, name in enumerate(CLASSES)}
    assert np.median(of_class["Trouser"]) == 2
    assert np.median(of_class["Dress"]) == 1


@pytest.mark.parametrize(
    ("train", "test", "seed", "message"),
    [
        (0, 10, 0, "train_count is 0; expected 1 or more"),
        (10, -3, 0, "test_count is -3; expected 1 or more"),
        (10, 10, -1, "seed is -1; expected 0 or more"),
    ],
)
def test_impossible_requests_are_refused(train: int, test: int, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_dataset(train, test, seed)


def test_a_linear_model_does_not_get_far_in_one_epoch(dataset: Dataset) -> None:
    weights, bias = softmax_regression(dataset.train, epochs=1)
    accuracy = accuracy_of(dataset.test, weights, bias)
    assert 0.2 < accuracy < 0.6


def test_a_linear_model_leaves_something_to_a_convnet(dataset: Dataset) -> None:
    weights, bias = softmax_regression(dataset.train, epochs=20)
    assert 0.6 < accuracy_of(dataset.test, weights, bias) < 0.85


def softmax_regression(
    split: Split, epochs: int, batch: int = 128, rate: float = 0.001
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Multinomial logistic regression by RMSprop with Keras's constants; weights `(785, 10)`."""
    rng = np.random.default_rng(0)
    x = np.c_[scaled(split).reshape(len(split), -1), np.ones(len(split))]
    y = np.eye(10)[split.labels]
    glorot = np.sqrt(6 / (784 + 10))
    weights = np.r_[rng.uniform(-glorot, glorot, (784, 10)), np.zeros((1, 10))]
    square = np.zeros_like(weights)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            part = order[start : start + batch]
            scores = np.exp(x[part] @ weights)
            error = scores / scores.sum(1, keepdims=True) - y[part]
            gradient = x[part].T @ error / len(part)
            square = 0.9 * square + 0.1 * gradient**2
            weights -= rate * gradient / np.sqrt(square + 1e-7)
    return weights[:-1], weights[-1]


def accuracy_of(split: Split, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> float:
    scores = scaled(split).reshape(len(split), -1) @ weights + bias
    return float((scores.argmax(1) == split.labels).mean())


@pytest.mark.usefixtures("tensorflow_ready")
def test_a_small_convnet_learns_from_400_images(dataset: Dataset) -> None:
    """Ten epochs of 400 images give 0.70 to 0.75, fifteen of 2,000 images 0.87 to 0.90."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 7, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    few = Split(dataset.train.images[:400], dataset.train.labels[:400])
    model.fit(scaled(few), few.labels, batch_size=64, epochs=6, verbose=0)
    _, accuracy = model.evaluate(scaled(dataset.test), dataset.test.labels, verbose=0)
    assert accuracy > 0.5
