"""Random rotation, shift, shear, zoom and flip, as Keras's `ImageDataGenerator` means them.

The notebook augments with `ImageDataGenerator(rotation_range=40, width_shift_range=0.2,
height_shift_range=0.2, shear_range=0.2, zoom_range=0.2, horizontal_flip=True)`. That class is
deprecated, draws from NumPy's global random state and treats one image at a time. This module
draws from a generator and treats all images at once; a test compares the two.

Source: `get_random_transform` and `apply_affine_transform` in
`keras/src/legacy/preprocessing/image.py`, Keras 3.15.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float32, Int64
from tasks.core.settings.training import AugmentSettings

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# A chunk's coordinates and pixels then stay in the processor's cache, and their memory is not given
# back and asked for again: nine times as fast as 8,000 images in one go.
_CHUNK_PIXELS = 25_000


@dataclass(frozen=True)
class Transforms:
    """One random transform an image; every field is `(n,)`, float64 but for the boolean `flip`.

    `rotation` and `shear` are in degrees, the shifts are fractions of the image's size, the zooms
    are factors on the *source* coordinates: more than 1 makes the garment smaller.
    """

    rotation: Float64
    height_shift: Float64
    width_shift: Float64
    shear: Float64
    zoom_x: Float64
    zoom_y: Float64
    flip: Bool

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, part: slice) -> Transforms:
        """The transforms of some of the images."""
        return Transforms(**{f.name: getattr(self, f.name)[part] for f in fields(self)})


def augment(images: Float32, settings: AugmentSettings, rng: np.random.Generator) -> Float32:
    """A randomly transformed copy of each image.

    `images` is `(n, height, width, channels)` float32 and is left as it is; so is the result,
    whose values stay within the range of each image's own, up to rounding.
    """
    return apply_transforms(images, draw_transforms(len(images), settings, rng))


def draw_transforms(n: int, settings: AugmentSettings, rng: np.random.Generator) -> Transforms:
    """Draw `n` transforms.

    Always seven numbers an image, one image after the other: the first `k` of `n` transforms are
    what drawing `k` gives, and switching one kind of transform off does not move the others.
    """
    draws = rng.random((n, 7))
    rotation, height_shift, width_shift, shear, zoom_x, zoom_y = 2 * draws[:, :6].T - 1
    return Transforms(
        rotation=settings.rotation_range * rotation,
        height_shift=settings.height_shift_range * height_shift,
        width_shift=settings.width_shift_range * width_shift,
        shear=settings.shear_range * shear,
        zoom_x=1 + settings.zoom_range * zoom_x,
        zoom_y=1 + settings.zoom_range * zoom_y,
        flip=(draws[:, 6] < 0.5) & settings.horizontal_flip,
    )


def apply_transforms(images: Float32, transforms: Transforms) -> Float32:
    """Transform image i by the i-th transform; beyond its edge an image repeats its edge pixels.

    `images` is `(n, height, width, channels)` float32 and is left as it is; so is the result.

    Raises:
        ValueError: `images` has another rank or dtype, or there is not one transform an image.
    """
    if images.ndim != 4 or images.dtype != np.float32:
        raise ValueError(
            f"images have shape {images.shape} and dtype {images.dtype}; expected "
            "(n, height, width, channels) float32."
        )
    if len(images) != len(transforms):
        raise ValueError(f"{len(images)} images but {len(transforms)} transforms.")
    height, width = images.shape[1:3]
    matrices = source_matrices(transforms, height, width)
    step = max(1, _CHUNK_PIXELS // max(1, height * width))
    result = np.empty_like(images, order="C")
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        result[part] = _sample(images[part], matrices[part], transforms.flip[part])
    return result


def source_matrices(transforms: Transforms, height: int, width: int) -> Float64:
    """Where in the source each pixel of the result comes from: `(n, 2, 3)` float64.

    `matrix @ (row, column, 1)` is the `(row, column)` in the source image.

    Keras composes rotation, shift, shear and zoom about the centre as if the first coordinate ran
    down the image, then swaps both coordinates. A square image notices nothing. In a rectangular
    one the height's shift moves along the width, and the centre of rotation is not the centre of
    the image; that is kept, since the aim is Keras's meaning and not a better one.
    """
    angle, shear = np.deg2rad(transforms.rotation), np.deg2rad(transforms.shear)
    centre = (height / 2 - 0.5, width / 2 - 0.5)
    shift = (transforms.height_shift * height, transforms.width_shift * width)
    matrix = (
        _affine(len(transforms), shift=centre)
        @ _affine(len(transforms), np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))
        @ _affine(len(transforms), shift=shift)
        @ _affine(len(transforms), 1.0, -np.sin(shear), 0.0, np.cos(shear))
        @ _affine(len(transforms), transforms.zoom_x, 0.0, 0.0, transforms.zoom_y)
        @ _affine(len(transforms), shift=(-centre[0], -centre[1]))
    )
    return matrix[:, [1, 0]][:, :, [1, 0, 2]]


def _affine(
    n: int,
    xx: float | Float64 = 1.0,
    xy: float | Float64 = 0.0,
    yx: float | Float64 = 0.0,
    yy: float | Float64 = 1.0,
    shift: tuple[float | Float64, float | Float64] = (0.0, 0.0),
) -> Float64:
    """`n` homogeneous matrices of the plane, `(n, 3, 3)`; each entry is a number or `(n,)`."""
    matrix = np.zeros((n, 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = xx, xy, shift[0]
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = yx, yy, shift[1]
    matrix[:, 2, 2] = 1.0
    return matrix


def _sample(images: Float32, matrices: Float64, flip: Bool) -> Float32:
    """Each image read bilinearly at the places that its `(2, 3)` matrix gives, from right to left
    where it is flipped.

    In place wherever it can be: here an epoch with augmentation spends its time besides learning.
    """
    n, height, width, channels = images.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    columns = np.where(flip[:, None, None], columns[::-1], columns)
    pixel, row_fraction = _pixel_and_fraction(matrices[:, 0], rows, columns, height)
    column, column_fraction = _pixel_and_fraction(matrices[:, 1], rows, columns, width)
    pixel *= width
    pixel += column
    pixel += (np.arange(n) * (height * width))[:, None, None]
    down, right = (width if height > 1 else 0), (1 if width > 1 else 0)

    # Single numbers are gathered faster than rows of one number.
    pixels = images.reshape(-1) if channels == 1 else images.reshape(-1, channels)
    if channels > 1:
        row_fraction, column_fraction = row_fraction[..., None], column_fraction[..., None]
    upper = _between(pixels, pixel, right, column_fraction)
    pixel += down
    lower = _between(pixels, pixel, right, column_fraction)
    lower -= upper
    lower *= row_fraction
    upper += lower
    return upper.reshape(images.shape)


def _between(pixels: Float32, place: Int64, right: int, fraction: Float32) -> Float32:
    """Pixels at `place`, moved by a fraction towards those `right` of it."""
    found: Float32 = pixels.take(place, axis=0)
    towards = pixels.take(place + right, axis=0)
    towards -= found
    towards *= fraction
    found += towards
    return found


def _pixel_and_fraction(
    coefficients: Float64, rows: Int64, columns: Int64, size: int
) -> tuple[Int64, Float32]:
    """Along one axis of `size` pixels: the pixel before each place and how far beyond it that is.

    `coefficients` is `(n, 3)`, one row of each matrix; `rows` `(height, 1)` and `columns`
    `(n, 1, width)` are where in the result each pixel is. Places outside are moved to the edge,
    which is SciPy's and Keras's filling with the nearest pixel. Both are `(n, height, width)`, in
    [0, size - 2] and in [0, 1].
    """
    by_row, by_column, offset = coefficients.T[:, :, None, None]
    place = by_row * rows + by_column * columns
    place += offset
    np.clip(place, 0, size - 1, out=place)
    pixel = place.astype(np.int64)
    np.minimum(pixel, max(size - 2, 0), out=pixel)
    place -= pixel
    return pixel, place.astype(np.float32)
