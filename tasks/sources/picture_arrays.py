"""Read the pictures in `.npz` archives and `.npy` files, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from tasks.core.data.photographs import ImageFormat
from tasks.core.data.pixel_values import conversion, is_number
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.sources.array_collection import Pixels, converted, layout_of, span_in
from tasks.sources.collection import as_picture
from tasks.sources.picture_decoding import Undecoded
from tasks.sources.stored_arrays import StoredArray, in_npy, in_npz

SUFFIXES = frozenset((".npz", ".npy"))
NAMES = ("x", "images")

_EXPECTED = "expected an array (n, h, w) or (n, h, w, channels) with 1, 3 or 4 channels"


def in_arrays(
    path: Path, source: str, like: ImageFormat, note: Callable[[str], None]
) -> Iterator[Undecoded]:
    """The pictures in a `.npy` file or in an `.npz` archive.

    Of an archive, these are in its array `x` or `images`, or in the only one that can be images;
    of several, in the only one of uint8 or of the model's size.

    Args:
        path: the file.
        source: what it is called.
        like: the format of the images on which the model was trained.
        note: is given a sentence about each conversion.

    Raises:
        UserError: there is no such array, its numbers or axes have no or several meanings, or it
            is damaged; the blocks before the damage are yielded first.
    """
    archive = path.suffix.lower() == ".npz"
    array = _chosen(in_npz(path), like) if archive else in_npy(path)
    pixels = Pixels(
        array.name,
        array.origin,
        shape_of(array.shape, like, array.origin),
        array.dtype,
        array.blocks,
    )
    if len(pixels.shape) > len(array.shape):
        note(
            f"{source}: rows of {array.shape[1]} pixels were taken as {like.height} x {like.width}."
        )
    yield from in_pixels(pixels, source, like.white, note)


def in_pixels(
    pixels: Pixels, source: str, white: int, note: Callable[[str], None]
) -> Iterator[Undecoded]:
    """The pictures in an array, after its numbers and axes were understood.

    Args:
        pixels: the array.
        source: what the file is called.
        white: what is at least white in numbers of more than 8 bits.
        note: is given a sentence about each conversion.

    Raises:
        UserError: its numbers or axes have no or several meanings, or it is damaged.
    """
    how = layout_of(pixels)
    into = conversion(pixels.dtype, pixels.span or span_in(pixels), pixels.origin, white)
    for said in (how.note, into.note):
        if said:
            note(f"{source}: {said}.")
    numbers = count()
    for block in converted(pixels, how, into):
        for image in block:
            yield Undecoded(f"{source}[{next(numbers)}]", partial(as_picture, image))


def shape_of(shape: tuple[int, ...], like: ImageFormat, origin: str) -> tuple[int, ...]:
    """The shape of pictures in an array of a shape: rows of a model's pixels are images.

    Raises:
        UserError: the array may be a single picture, or rows of something else.
    """
    size = (like.height, like.width)
    if len(shape) == 2 and shape[1] == like.height * like.width:
        return (shape[0], *size)
    if len(shape) == 2:
        raise UserError(
            f"{origin} has shape {shape}, so it may be one picture or rows of pixels; write one "
            f"picture as {(1, *shape)}, and rows as (n, h, w)."
        )
    last = len(shape) == 3 and shape[1:] != size and shape[2] in (3, 4)
    first = len(shape) == 3 and shape[0] == 3 == like.channels
    if last or first:
        raise UserError(
            f"{origin} has shape {shape}, which looks like one colour picture; write it as "
            f"(1, h, w, {shape[2] if last else 3})."
        )
    return shape


def _chosen(arrays: Sequence[StoredArray], like: ImageFormat) -> StoredArray:
    for name in NAMES:
        for array in arrays:
            if array.name.lower() == name:
                return array
    names = [array.name for array in arrays]
    found = [array for array in arrays if _may_be_images(array, like)]
    size = (like.height, like.width)
    for better in (
        [array for array in found if array.dtype == np.uint8],
        [array for array in found if size in (array.shape[1:3], array.shape[2:4])],
    ):
        if len(found) > 1 and len(better) == 1:
            return better[0]
    if not found:
        raise UserError(
            f"has the arrays {listed(names, 60) or 'none'}, no images; {_EXPECTED}, named x or "
            "images."
        )
    if len(found) > 1:
        images = [array.name for array in found]
        raise UserError(
            f"has several arrays that may be images ({listed(images, 60)}); save the one you mean "
            f"as a file: np.save('{images[0][:20]}.npy', np.load('file.npz')['{images[0][:20]}'])."
        )
    return found[0]


def _may_be_images(array: StoredArray, like: ImageFormat) -> bool:
    if not is_number(array.dtype) or 0 in array.shape:
        return False
    try:
        shape = shape_of(array.shape, like, array.origin)
        layout_of(Pixels(array.name, array.origin, shape, array.dtype, array.blocks))
    except UserError:
        return False
    return True
