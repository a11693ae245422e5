"""Cheap variations of training images: flips, shifts by whole pixels, erased squares, mixtures.

Flips, shifts and erased squares are drawn for each image of the data set and each epoch, mixtures
for each batch, so that they depend on (seed, image or step, epoch) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.array_types import Bool, Float32, Int64
from tasks.core.seeds import generator
from tasks.core.settings.optimization import VariationSettings

# Images, labels and, if there are any, weights.
Batch = tuple[Float32, ...]


@dataclass(frozen=True)
class Variation:
    """The variations of one epoch; `flip`, `shift` and `erased` have a row for each image.

    Attributes:
        flip: `(n,)` bool, which images are mirrored.
        shift: `(n, 2)` pixels down and to the right; None for no shifts.
        erased: `(n, 2)` in [0, 1), where the square is; None for none.
        settings: the size of the square, and the mixtures.
        seed: seed of the mixtures.
        epoch: the epoch, from 1.
    """

    flip: Bool
    shift: Int64 | None
    erased: np.ndarray | None
    settings: VariationSettings
    seed: int
    epoch: int

    def applied(self, images: Float32, chosen: Int64) -> Float32:
        """Vary `(m, h, w, c)` images, which are those `chosen` of the data set."""
        found = np.where(self.flip[chosen][:, None, None, None], images[:, :, ::-1], images)
        if self.shift is not None:
            found = _shifted(found, self.shift[chosen])
        if self.erased is not None:
            found = _erased(found, self.erased[chosen], self.settings.erase)
        return found

    def mixed(self, step: int, images: Float32, labels: Float32, *weights: Float32) -> Batch:
        """Mix the images of a batch in pairs, their one-hot labels `(m, classes)`, and weights.

        Image i is mixed with the image at the same place from the end; batches are in random order.
        The weight of each label remains that of its image. There are `(m,)` weights or none.
        """
        mixup, cutmix = self.settings.mixup, self.settings.cutmix
        if not mixup and not cutmix:
            return (images, labels, *weights)
        rng = generator(self.seed, "mixture", self.epoch, step)
        by_cutting = bool(cutmix) and (not mixup or rng.random() < 0.5)
        alpha = cutmix if by_cutting else mixup
        share = float(rng.beta(alpha, alpha))
        if by_cutting:
            images, share = _cut(images, share, rng)
        else:
            images = _between(images, images[::-1], share)
        if not weights:
            return images, _between(labels, labels[::-1], share)
        weight = weights[0][:, None]
        whole = _between(weight, weight[::-1], share)
        labels = _between(weight * labels, (weight * labels)[::-1], share)
        # Where both weights are 0, so are the labels.
        labels /= np.maximum(whole, np.finfo(np.float32).tiny)
        return images, labels, whole[:, 0]


def draw_variation(
    count: int, settings: VariationSettings, seed: int, epoch: int
) -> Variation | None:
    """Draw the variations of `count` images in an epoch, from 1; None if there are none."""
    if settings == VariationSettings():
        return None
    flip = np.zeros(count, bool)
    if settings.flip == "alternating":
        flip = (generator(seed, "side").random(count) < 0.5) ^ (epoch % 2 == 0)
    elif settings.flip == "random":
        flip = generator(seed, "flip", epoch).random(count) < 0.5
    shift = erased = None
    if settings.shift:
        reach = settings.shift
        shift = generator(seed, "shift", epoch).integers(-reach, reach + 1, (count, 2))
    if settings.erase:
        erased = generator(seed, "erase", epoch).random((count, 2))
    return Variation(flip, shift, erased, settings, seed, epoch)


def _shifted(images: Float32, shift: Int64) -> Float32:
    """Move each image; what comes in at an edge is what is within it, mirrored."""
    _, height, width, _ = images.shape
    rows = reflected(np.arange(height) - shift[:, :1], height)
    columns = reflected(np.arange(width) - shift[:, 1:], width)
    number = np.arange(len(images))[:, None, None]
    return images[number, rows[:, :, None], columns[:, None, :]]


def reflected(place: Int64, size: int) -> Int64:
    """Positions in [0, size), mirrored at the centres of the first and the last pixel."""
    period = max(1, 2 * (size - 1))
    place = np.abs(place) % period
    return np.minimum(place, period - place) if size > 1 else np.zeros_like(place)


def _erased(images: Float32, place: np.ndarray, side: int) -> Float32:
    """Make a square of each image black; its centre may be anywhere in the image."""
    _, height, width, _ = images.shape
    centre = (place * (height, width)).astype(np.int64)
    inside = [
        (np.arange(size) >= start[:, None]) & (np.arange(size) < start[:, None] + side)
        for size, start in zip((height, width), (centre - side // 2).T, strict=True)
    ]
    square = inside[0][:, :, None] & inside[1][:, None, :]
    return np.where(square[..., None], np.float32(0), images)


def _cut(images: Float32, share: float, rng: np.random.Generator) -> tuple[Float32, float]:
    """Replace a rectangle of about `1 - share` of each image by that of its partner.

    Also return the share of an image that is left (Yun et al., "CutMix", 2019).
    """
    _, height, width, _ = images.shape
    centre = rng.random(2) * (height, width)
    half = np.sqrt(1 - share) / 2 * np.array((height, width))
    top, left = np.maximum(0, centre - half).round().astype(int)
    bottom, right = np.minimum((height, width), centre + half).round().astype(int)
    found = images.copy()
    found[:, top:bottom, left:right] = images[::-1, top:bottom, left:right]
    return found, 1 - float((bottom - top) * (right - left)) / (height * width)


def _between(one: Float32, other: Float32, share: float) -> Float32:
    found: Float32 = np.float32(share) * one + np.float32(1 - share) * other
    return found
