"""A first layer that whitens patches of images, computed from training images.

The filters are the eigenvectors of the patches' covariance, each divided by the square root of its
eigenvalue, and their negatives, so that an activation keeps both signs (Jordan, arXiv 2404.00498,
section 3.2).
"""

from __future__ import annotations

import numpy as np

from tasks.core.array_types import Float32, Float64, UInt8

# Added to each eigenvalue, of patches with mean variance 1, so that noise is not blown up.
_EPSILON = 5e-4


def whitening_weights(images: UInt8, side: int) -> tuple[Float32, Float32]:
    """Kernel `(side, side, c, 2 k)` and bias `(2 k,)` of a convolution that whitens patches.

    `images` is `(n, h, w, c)` uint8; the convolution reads them in [0, 1]. k = side * side * c.
    """
    scaled = images.astype(np.float64) / 255
    patches = np.lib.stride_tricks.sliding_window_view(scaled, (side, side), axis=(1, 2))
    # (n, h, w, c, side, side) to rows of (side, side, c)
    rows = np.moveaxis(patches, 3, -1).reshape(-1, side * side * images.shape[3])
    mean = rows.mean(axis=0)
    rows = rows - mean
    covariance: Float64 = rows.T @ rows / len(rows)
    variance = covariance.trace() / len(covariance)
    if variance == 0:
        # Images of a single colour have nothing to whiten.
        variance = 1.0
    values, vectors = np.linalg.eigh(covariance / variance)
    # An eigenvector's sign is arbitrary: its largest part is made positive.
    largest = np.abs(vectors).argmax(axis=0)
    vectors *= np.sign(vectors[largest, np.arange(len(values))])
    filters = vectors[:, ::-1] / np.sqrt((values[::-1] + _EPSILON) * variance)
    both = np.concatenate([filters, -filters], axis=1)
    kernel = both.reshape(side, side, images.shape[3], -1)
    return kernel.astype(np.float32), (-(mean @ both)).astype(np.float32)
