"""Convolutions with 3 x 3 kernels by a quarter of the multiplications, for small maps.

A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks" (arXiv 1509.09308): a tile
of 4 x 4 outputs and its 6 x 6 inputs are polynomials, whose product is known from its values at
points. With d the inputs, g the kernel and Y the outputs of a tile,

    Y = A^T [(G g G^T) * (B^T d B)] A

where `*` multiplies entry by entry, and becomes a product of matrices of channels. So 36 products
replace 144. Here all tiles of many images are transformed by one product of matrices.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.polynomial.polynomial import polyfromroots

from tasks.core.array_types import Float64
from tasks.core.networks.fast_convolutions import FastConvolution
from tasks.core.networks.precision import on_cpus

# Outputs of a tile, and inputs.
TILE = 4
_READ = TILE + 2
# Larger maps are cut into blocks of so many pixels a side, as transforms take all tiles at once.
_BLOCK = 8
_LARGEST = 16
# With fewer channels, transforms take longer than the products that they save; of larger maps, they
# take twice as long.
_CHANNELS, _CHANNELS_OF_LARGE = 128, 256

# Besides infinity. With 0, 1, -1, 2 and -2, as in the paper, rounding errors are twice as large.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


def _matrices() -> tuple[Float64, Float64, Float64]:
    """`B^T` (6, 6), `G` (6, 3) and `A^T` (4, 6), for interpolation at `_POINTS` and infinity."""
    inputs, kernel, outputs = (
        np.zeros((_READ, _READ)),
        np.zeros((_READ, 3)),
        np.zeros((TILE, _READ)),
    )
    for row, point in enumerate(_POINTS):
        others = [other for other in _POINTS if other != point]
        inputs[row, :-1] = polyfromroots(others)
        kernel[row] = point ** np.arange(3) / np.prod(point - np.array(others))
        outputs[:, row] = point ** np.arange(TILE)
    inputs[-1] = polyfromroots(_POINTS)
    kernel[-1, -1] = outputs[-1, -1] = 1
    return inputs, kernel, outputs


_INPUT, _KERNEL, _OUTPUT = _matrices()


class WinogradConvolution(FastConvolution):
    """A padded 3 x 3 convolution of `(n, side, side, channels)`, by Winograd's method.

    Results differ from Keras's by a few times the rounding of float32. Fewer digits are too few, so
    it is not for GPUs and mixed precision.
    """

    def __init__(
        self,
        convolution: keras.layers.Conv2D,
        pooling: keras.layers.MaxPooling2D | None = None,
        *,
        frozen: bool = False,
    ) -> None:
        """Share the weights of a built convolution; the kernel is transformed once if `frozen`."""
        super().__init__(convolution, pooling)
        self._kernel = self._transformed_kernel() if frozen else None

    @staticmethod
    def suits_input(convolution: keras.layers.Conv2D, x: keras.KerasTensor) -> bool:
        """Whether this class computes the convolution of this input, and sooner."""
        height, width, channels = x.shape[1:]
        kind = (convolution.kernel_size, convolution.padding, height)
        small = height % TILE == 0 and (height <= _BLOCK or height == _LARGEST)
        widths = (channels, convolution.filters)
        wide = min(widths) >= _CHANNELS
        if height > _BLOCK:
            wide = wide and max(widths) >= _CHANNELS_OF_LARGE
        precise = convolution.compute_dtype in ("float32", "float64") and on_cpus()
        return kind == ((3, 3), "same", width) and small and wide and precise

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The convolution without its bias, `(n, side, side, filters)`."""
        side, _, channels = x.shape[1:]
        block = min(side, _BLOCK)
        parts, margin = side // block, int(side > block)
        if margin:
            x = _with_margins(x, block)
        pixels = (block + 2 * margin) ** 2
        # Pixels first: each transform is one product of matrices.
        x = keras.ops.transpose(keras.ops.reshape(x, (-1, pixels, channels)), (1, 0, 2))
        transform = self._constant(_input_transform(block, margin))
        x = keras.ops.matmul(transform, keras.ops.reshape(x, (pixels, -1)))
        x = keras.ops.reshape(x, (_READ**2, -1, channels))
        kernel = self._transformed_kernel() if self._kernel is None else self._kernel
        products = keras.ops.matmul(x, kernel)
        filters = products.shape[2]
        outputs = self._constant(_twice(_OUTPUT))
        found = keras.ops.matmul(outputs, keras.ops.reshape(products, (_READ**2, -1)))
        across = block // TILE
        found = keras.ops.reshape(found, (TILE, TILE, across, across, -1, filters))
        found = keras.ops.transpose(found, (4, 2, 0, 3, 1, 5))
        if parts == 1:
            return keras.ops.reshape(found, (-1, side, side, filters))
        found = keras.ops.reshape(found, (parts, parts, -1, block, block, filters))
        found = keras.ops.transpose(found, (2, 0, 3, 1, 4, 5))
        return keras.ops.reshape(found, (-1, side, side, filters))

    def _transformed_kernel(self) -> Any:
        """`(36, channels, filters)`: the kernel at each pair of points."""
        kernel = self.convolution.kernel
        channels, filters = kernel.shape[2:]
        transform = self._constant(_twice(_KERNEL))
        found = keras.ops.matmul(transform, keras.ops.reshape(kernel, (9, -1)))
        return keras.ops.reshape(found, (_READ**2, channels, filters))

    def _constant(self, matrix: Float64) -> Any:
        return keras.ops.convert_to_tensor(matrix, self.compute_dtype)


def _twice(matrix: Float64) -> Float64:
    """The transform of both sides of a tile at once."""
    found: Float64 = np.kron(matrix, matrix).astype(np.float64)
    return found


def _with_margins(x: keras.KerasTensor, block: int) -> keras.KerasTensor:
    """The blocks of maps with one pixel around each, `(parts * parts * n, block + 2, ...)`."""
    side = x.shape[1]
    padded = keras.ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return keras.ops.concatenate(
        [
            padded[:, top : top + block + 2, left : left + block + 2]
            for top in range(0, side, block)
            for left in range(0, side, block)
        ]
    )


def _input_transform(block: int, margin: int) -> Float64:
    """`(36 * tiles, pixels)`: values at each pair of points, tile by tile, of a block's pixels.

    Without a margin, the pixels around the block are zeros and left out.
    """
    across = block // TILE
    line = np.zeros((_READ, across, block + 2))
    for tile in range(across):
        line[:, tile, TILE * tile : TILE * tile + _READ] = _INPUT
    if not margin:
        line = line[:, :, 1:-1]
    both = np.einsum("ajp,blq->abjlpq", line, line)
    found: Float64 = both.reshape(_READ**2 * across**2, -1)
    return found
