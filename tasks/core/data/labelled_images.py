"""Labelled images in memory: Fashion-MNIST, and images that the program draws."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.array_types import UInt8

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Split:
    """Some labelled images.

    `images`: `(n, height, width, channels)` uint8 in [0, 255], 1 or 3 channels.
    `labels`: `(n,)` uint8, the index of each image's class.
    """

    images: UInt8
    labels: UInt8

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split over the same named classes."""

    train: Split
    test: Split
    class_names: tuple[str, ...]
