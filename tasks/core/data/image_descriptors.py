"""Short descriptors of images, which rule out most pairs as near duplicates."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, Int64, UInt8
from tasks.core.data.gradient_correlation import batches, gradients, least_overlap_norms
from tasks.core.data.image_digests import image_digests
from tasks.core.data.rows import Reduced, RowReader

# More axes rule out more pairs, but each costs two bytes per image and time per pair.
_AXES = 239
# Pixels on the longer side of images that are compared.
LARGEST = 48
_SAMPLE, _SAMPLE_VALUES = 1_024, 2**25
# Batches that are described at a time; each takes some 30 MiB.
_THREADS = 4


@dataclass(frozen=True)
class DescribedImages:
    """A set of images with their descriptors.

    Attributes:
        images: `(n, h, w, c)` uint8, which need not be in memory.
        shift: the largest shift considered, in pixels.
        digests: `(n,)`, 16 bytes per image; equal for equal images.
        earliest: `(n,)` position of the first image that is equal.
        codes: `(n, k)` float16, the amplitude spectra along the principal axes and the norm of
            the rest; zeros for an image that equals an earlier one.
        norms: `(n, shift + 1)` float32, see `least_overlap_norms`.
        axes: `(d, k - 1)`, those of `codes`; None if `codes` is empty.
    """

    images: RowReader
    shift: int
    digests: NDArray[np.void]
    earliest: Int64
    codes: NDArray[np.float16]
    norms: Float32
    axes: Float32 | None

    def __len__(self) -> int:
        return len(self.images)


def reduced(images: RowReader) -> RowReader:
    """The images with their longer side divided by the least number that makes it `LARGEST`.

    Details below this size do not tell whether two photographs are near duplicates, and the time
    of a comparison grows with the number of pixels.
    """
    factor = -(-max(images.shape[1:3]) // LARGEST)
    return Reduced(images, factor) if factor > 1 else images


def principal_axes(images: RowReader, shift: int) -> Float32:
    """`(d, k)` orthonormal directions in which a sample of the images' spectra is largest.

    There are `_AXES` of them, or fewer with few images or pixels.
    """
    images = reduced(images)
    size = amplitudes(images[:1], shift).shape[1]
    count = min(_SAMPLE, max(1, _SAMPLE_VALUES // size))
    sample = images[:: -(-len(images) // count)]
    spectra = np.concatenate([amplitudes(sample[part], shift) for part in batches(sample)])
    _, vectors = np.linalg.eigh((spectra @ spectra.T).astype(np.float64))
    largest = vectors[:, ::-1][:, :_AXES].astype(np.float32)
    axes, _ = np.linalg.qr((spectra.T @ largest).astype(np.float64))
    return axes.astype(np.float32)


def describe_images(images: RowReader, axes: Float32 | None, shift: int) -> DescribedImages:
    """Compute the descriptors of images.

    Args:
        images: `(n, h, w, c)` uint8; they are read twice, in blocks.
        axes: from `principal_axes`; sets that are compared need the same axes. None if only equal
            images are looked for: then `codes` and `norms` are empty, and images are read once.
        shift: the largest shift considered, in pixels.
    """
    digests = image_digests(images)
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    earliest = first[group]
    images = reduced(images)
    if axes is None:
        codes, norms = (
            np.empty((len(images), 0), np.float16),
            np.empty((len(images), 0), np.float32),
        )
    else:
        codes, norms = _codes_and_norms(images, axes, shift)
        # Only the first of equal images is compared with others.
        codes[earliest != np.arange(len(images))] = 0
    return DescribedImages(images, shift, digests, earliest, codes, norms, axes)


def _codes_and_norms(
    images: RowReader, axes: Float32, shift: int
) -> tuple[NDArray[np.float16], Float32]:
    codes = np.empty((len(images), axes.shape[1] + 1), np.float16)
    norms = np.empty((len(images), shift + 1), np.float32)

    def fill(part: slice) -> None:
        some = images[part]
        codes[part] = codes_of(some, axes, shift)
        norms[part] = least_overlap_norms(some, shift)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(fill, batches(images)):
            pass
    return codes, norms


def codes_of(images: UInt8, axes: Float32, shift: int) -> Float32:
    """`(n, k + 1)`: the spectra along the `k` axes, and the norm of the rest."""
    spectra = amplitudes(images, shift)
    along = spectra @ axes
    rest = np.square(spectra).sum(axis=1) - np.square(along).sum(axis=1)
    found: Float32 = np.column_stack([along, np.sqrt(np.maximum(rest, 0))])
    return found


def amplitudes(images: UInt8, shift: int) -> Float32:
    """`(n, d)` amplitude spectra of the gradients, each of norm 1, or 0 without gradients.

    The gradients are padded by `shift` zeros, so that shifts do not wrap around the edges.
    """
    n, height, width, _ = images.shape
    grid = (height + shift, width + shift + (width + shift) % 2)
    # `rfft2` leaves out the mirror images of all columns but the first and the last.
    weights = np.full((1, grid[1] // 2 + 1, 1), 2, np.float32)
    weights[:, [0, -1]] = 1
    spectra = np.stack(
        [np.abs(np.fft.rfft2(field, s=grid, axes=(1, 2))) for field in gradients(images)], axis=1
    )
    flat = (spectra * np.sqrt(weights)).reshape(n, math.prod(spectra.shape[1:]))
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    # An image of a single colour has no gradients, so it is similar only to identical images.
    scaled: Float32 = (flat / np.where(norms > 0, norms, 1)).astype(np.float32)
    return scaled
