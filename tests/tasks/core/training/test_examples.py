"""Batches of examples: scaled, one-hot, and without copies of what is not asked for."""

from __future__ import annotations

import numpy as np

from tasks.core.data.rows import Joined, Picked
from tasks.core.training.examples import Examples, joined

IMAGES = np.arange(5 * 2 * 2, dtype=np.uint8).reshape(5, 2, 2, 1) * 12
LABELS = np.array([299, 0, 256, 1, 2], np.uint16)
EXAMPLES = Examples(IMAGES, LABELS, 300, np.linspace(1, 3, 5, dtype=np.float32))


def test_images_are_scaled_and_labels_one_hot() -> None:
    x, y = EXAMPLES.batch(np.array([2, 0]))
    assert x.dtype == y.dtype == np.float32
    assert x.tobytes() == (IMAGES[[2, 0]].astype(np.float32) / np.float32(255)).tobytes()
    assert y.shape == (2, 300)
    assert (y.argmax(axis=1).tolist(), y.sum(axis=1).tolist()) == ([256, 299], [1, 1])


def test_other_inputs_stay_as_they_are() -> None:
    features = np.array([[-7.5], [300.0]], np.float32)
    x, _ = Examples(features, LABELS[:2], 300).batch(slice(0, 2))
    assert x.tobytes() == features.tobytes()


def test_chosen_examples_keep_label_and_weight_and_copy_no_image() -> None:
    found = EXAMPLES.take(np.array([4, 1]))
    assert isinstance(found.x, Picked)
    assert found.x.rows is IMAGES
    assert (len(found), found.classes, found.labels.tolist()) == (2, 300, [2, 0])
    assert found.weights is not None
    assert found.weights.tolist() == [3, 1.5]
    assert found.batch(slice(0, 1))[0].tobytes() == EXAMPLES.batch(slice(4, 5))[0].tobytes()
    assert Examples(IMAGES, LABELS, 300).take(np.array([4, 1])).weights is None


def test_joined_examples_follow_one_another() -> None:
    plain = Examples(IMAGES[:2], LABELS[:2], 300)
    assert joined([plain, plain]).weights is None
    found = joined([plain, EXAMPLES])
    assert isinstance(found.x, Joined)
    assert found.labels.tolist() == [*LABELS[:2], *LABELS]
    assert found.weights is not None
    assert found.weights.tolist() == [1, 1, 1, 1.5, 2, 2.5, 3]
    x, y = found.batch(slice(None))
    assert len(x) == len(y) == len(found) == 7
    assert x[2:].tobytes() == EXAMPLES.batch(slice(None))[0].tobytes()
