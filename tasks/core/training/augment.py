"""Random rotation, shift, shear, zoom and flip, as defined by Keras's `ImageDataGenerator`.

The notebook augments with `ImageDataGenerator(rotation_range=40, width_shift_range=0.2,
height_shift_range=0.2, shear_range=0.2, zoom_range=0.2, horizontal_flip=True)`. That class is
deprecated, draws from NumPy's global random state and processes images one by one. This module
draws from a given generator and processes all images together; a test compares the two.

Source: `get_random_transform` and `apply_affine_transform` in
`keras/src/legacy/preprocessing/image.py`, Keras 3.15.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tasks.core.array_types import Bool, Float32, Float64, Int64
from tasks.core.settings.training import AugmentSettings

# A chunk's coordinates and pixels fit in the processor's cache, and their memory is reused instead
# of being returned to the system. This is nine times as fast as 8,000 images at a time.
_CHUNK_PIXELS = 25_000


@dataclass(frozen=True)
class Transforms:
    """One random transform per image; every field is `(n,)` float64, except the boolean `flip`.

    `rotation` and `shear` are in degrees, shifts are fractions of the image's size, and zooms are
    factors of the *source* coordinates: a value above 1 makes the garment smaller.
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

    `images` is `(n, height, width, channels)` float32 and is not modified. The result has the same
    shape and dtype; each image's values stay within its range, up to rounding.
    """
    return apply_transforms(images, draw_transforms(len(images), settings, rng))


def draw_transforms(n: int, settings: AugmentSettings, rng: np.random.Generator) -> Transforms:
    """Draw `n` transforms.

    Each image takes seven random numbers, whatever the settings. So drawing more images leaves the
    first ones unchanged, and turning off one kind of transform does not affect the others.
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
    """Transform image i by the i-th transform; pixels beyond the edge repeat the edge pixels.

    `images` is `(n, height, width, channels)` float32 and is not modified. The result has the same
    shape and dtype.

    Raises:
        ValueError: `images` has another rank or dtype, or there is not one transform per image.
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
    """Matrices that map each pixel of the result to its source: `(n, 2, 3)` float64.

    `matrix @ (row, column, 1)` is the `(row, column)` in the source image.

    Keras composes rotation, shift, shear and zoom about the centre as if the first coordinate ran
    down the image, then swaps both coordinates. This makes no difference for square images. For
    others, the shift of the height moves along the width, and the centre of rotation is not the
    centre of the image. This is reproduced, since the aim is to match Keras.
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
    """`n` homogeneous matrices of the plane, `(n, 3, 3)`; each argument is a number or `(n,)`."""
    matrix = np.zeros((n, 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = xx, xy, shift[0]
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = yx, yy, shift[1]
    matrix[:, 2, 2] = 1.0
    return matrix


def _sample(images: Float32, matrices: Float64, flip: Bool) -> Float32:
    """Interpolate each image bilinearly at the positions that its `(2, 3)` matrix gives.

    Flipped images are read from right to left. Operations are in place where possible, since an
    epoch with augmentation spends most of its time outside the training itself here.
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

    # Gathering single numbers is faster than gathering rows of one number.
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
    """Pixels at `place`, interpolated by a fraction towards those `right` positions further on."""
    found: Float32 = pixels.take(place, axis=0)
    towards = pixels.take(place + right, axis=0)
    towards -= found
    towards *= fraction
    found += towards
    return found


def _pixel_and_fraction(
    coefficients: Float64, rows: Int64, columns: Int64, size: int
) -> tuple[Int64, Float32]:
    """Split source positions along one axis of `size` pixels into a pixel and a fraction.

    `coefficients` is `(n, 3)`, one row of each matrix; `rows` `(height, 1)` and `columns`
    `(n, 1, width)` are the positions in the result. Source positions outside the image move to the
    edge, like SciPy's and Keras's mode `nearest`. Both results are `(n, height, width)`, in
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
