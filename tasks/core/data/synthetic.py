"""Drawn garments in the format of Fashion-MNIST, for runs without a download and for tests.

A garment is an outline and a map of brightness; cloth, light and noise are the same for all kinds.
Pixels are computed with `+ - * /`, `sqrt` and rounding only, so a seed gives the same bytes on
every machine.
"""

from __future__ import annotations

import numpy as np

from tasks.core.array_types import Float32, UInt8
from tasks.core.data.garment_shapes import PIXEL, SIZE, Dice, Field, ink, weave
from tasks.core.data.garments import GARMENTS
from tasks.core.data.labelled_images import FASHION_MNIST_CLASSES, Dataset, Split
from tasks.core.errors import UserError

_DRAWS = 48
# Images drawn at a time, about a tenth of them of each kind. At this size the intermediate arrays
# fit in the processor's cache, and memory does not grow with the number of images.
_BLOCK = 1280


def draw_dataset(train_count: int, test_count: int, seed: int) -> Dataset:
    """Draw ten kinds of garments, bright on black, named `FASHION_MNIST_CLASSES`.

    Images are `(count, 28, 28, 1)` uint8, labels `(count,)` uint8 in random order; class counts
    differ by at most one. Image i of a split depends on the seed, the split and i alone, so the
    first images stay the same if more are drawn.

    Raises:
        UserError: a count below 1 or a negative seed.
    """
    for name, value, least in (
        ("train_count", train_count, 1),
        ("test_count", test_count, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"synthetic data: {name} is {value}; expected {least} or more.")
    train, test = np.random.SeedSequence(seed).spawn(2)
    return Dataset(
        _draw_split(train_count, train), _draw_split(test_count, test), FASHION_MNIST_CLASSES
    )


def _draw_split(count: int, seed: np.random.SeedSequence) -> Split:
    for_labels, for_shapes, for_noise = map(np.random.default_rng, seed.spawn(3))
    labels = _balanced_labels(count, for_labels)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    for start in range(0, count, _BLOCK):
        block = labels[start : start + _BLOCK]
        draws = for_shapes.random((len(block), _DRAWS), dtype=np.float32)
        noise = for_noise.random((len(block), SIZE, SIZE), dtype=np.float32) - np.float32(0.5)
        for label in range(len(GARMENTS)):
            kind = np.flatnonzero(block == label)
            images[start + kind] = _draw_images(label, draws[kind], noise[kind])
    return Split(images[..., np.newaxis], labels)


def _balanced_labels(count: int, rng: np.random.Generator) -> UInt8:
    """`(count,)` labels; each block of ten contains every class once, in random order."""
    classes = len(GARMENTS)
    blocks = rng.random((-(-count // classes), classes))
    return np.argsort(blocks, axis=1).astype(np.uint8).ravel()[:count]


def _draw_images(label: int, draws: Float32, noise: Float32) -> UInt8:
    """`(n, 28, 28)` images of one class from `(n, _DRAWS)` uniform draws and noise in +-1/2."""
    dice = Dice(draws)
    x, y = _placed_grid(dice)
    draw, patterned = GARMENTS[label]
    outline, tone = draw(x, y, dice)
    light = dice(0.25, 1.0) * (1 + dice(-0.25, 0.25) * x + dice(-0.2, 0.2) * y)
    cloth = light * (tone * weave(x, y, dice, patterned) + dice(0.02, 0.35) * noise)
    # Cloth is never black; otherwise the texture would leave holes in dark garments.
    image: Field = 255 * ink(outline) * np.clip(cloth, 0.06, 1)
    return np.rint(image).astype(np.uint8)


def _placed_grid(dice: Dice) -> tuple[Field, Field]:
    """Each pixel's place in the garment's coordinates: shifted, rotated, scaled, mirrored."""
    ticks = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * PIXEL - 1
    slope = dice(-0.16, 0.16)
    cosine = 1 / np.sqrt(1 + slope * slope)
    x, y = ticks[np.newaxis, np.newaxis, :], ticks[np.newaxis, :, np.newaxis]
    across = cosine * (x + slope * y) - dice(-0.14, 0.14)
    down = cosine * (y - slope * x) - dice(-0.12, 0.12)
    facing = 1 - 2 * dice.chance(0.5)
    return facing * across * dice(0.92, 1.22), down * dice(0.92, 1.22)
