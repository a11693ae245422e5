"""Convert a split's raw images and labels to the arrays that networks read."""

from __future__ import annotations

import numpy as np

from tasks.core.array_types import Float32, UInt8
from tasks.core.data.labelled_images import Split


def scaled(images: UInt8) -> Float32:
    """`(n, h, w, c)` uint8 in [0, 255] as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def one_hot(labels: UInt8, classes: int) -> Float32:
    """`(n,)` class indices as `(n, classes)` float32, 1 at the label and 0 elsewhere."""
    return np.eye(classes, dtype=np.float32)[labels]


def prepared(split: Split, classes: int) -> dict[str, Float32]:
    """A split as networks read it: `x` `(n, h, w, c)` in [0, 1], one-hot `y` `(n, classes)`."""
    return {"x": scaled(split.images), "y": one_hot(split.labels, classes)}


def background_brightness(images: UInt8) -> float:
    """The brightness of the background behind the objects, in [0, 1].

    It is the median over the images `(n, h, w, c)` of the median over an image's outermost pixels.
    Fashion-MNIST has 0: its garments are light on black.
    """
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    border = np.concatenate([edge.reshape(len(images), -1) for edge in edges], axis=1)
    return float(np.median(np.median(border, axis=1)) / 255)
