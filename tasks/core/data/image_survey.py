"""What is known of each image of a set after one reading: its digest, brightness and contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, Int64
from tasks.core.data.image_digests import SIZE, image_digests
from tasks.core.data.rows import Picked, Reduced, RowReader, blocks

# So many images at equal distances show how a set looks, in thumbnails of at most so many pixels
# on the longer side.
SHOWN, LARGEST = 20_000, 16


@dataclass(frozen=True)
class Survey:
    """A set of images `(n, h, w, c)`.

    Attributes:
        digests: `(n,)` 16 bytes for each image, equal for equal images.
        brightness: `(n,)` mean of the pixels, in [0, 255].
        contrast: `(n,)` standard deviation of the pixels; 0 for an image of one colour throughout.
        shown: `(m,)` positions of the images that have a thumbnail.
        thumbnails: `(m, h', w')` grey, with mean 0 and norm 1, so that products are correlations; 0
            without contrast.
    """

    digests: NDArray[np.void]
    brightness: Float32
    contrast: Float32
    shown: Int64
    thumbnails: Float32

    def __len__(self) -> int:
        return len(self.digests)


def survey(images: RowReader) -> Survey:
    """Read the images, uint8, once and in blocks, and those that have a thumbnail once more."""
    digests, brightness, contrast = [np.empty(0, f"V{SIZE}")], [], []
    for block in blocks(images):
        digests.append(image_digests(block))
        flat = block.reshape(len(block), -1)
        brightness.append(flat.mean(axis=1, dtype=np.float32))
        # An image of two colours has contrast, however little it is.
        varied = flat.max(axis=1) > flat.min(axis=1)
        contrast.append(np.where(varied, flat.std(axis=1, dtype=np.float32), 0))
    shown = np.arange(0, len(images), -(-len(images) // SHOWN) or 1)
    return Survey(
        np.concatenate(digests),
        np.concatenate([np.empty(0, np.float32), *brightness]),
        np.concatenate([np.empty(0, np.float32), *contrast]).astype(np.float32),
        shown,
        _thumbnails(Picked(images, shown)),
    )


def joined(first: Survey, second: Survey) -> Survey:
    """The images of two sets of one shape, one after the other."""
    return Survey(
        np.concatenate([first.digests, second.digests]),
        np.concatenate([first.brightness, second.brightness]),
        np.concatenate([first.contrast, second.contrast]),
        np.concatenate([first.shown, second.shown + len(first)]),
        np.concatenate([first.thumbnails, second.thumbnails]),
    )


def _thumbnails(images: RowReader) -> Float32:
    factor = -(-max(images.shape[1:3]) // LARGEST)
    small = Reduced(images, factor) if factor > 1 else images
    found: Float32 = np.concatenate(
        [block.mean(axis=3, dtype=np.float32) for block in blocks(small)]
    )
    centred = found - found.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True))
    scaled: Float32 = (centred / np.where(norms > 0, norms, 1)).astype(np.float32)
    return scaled
