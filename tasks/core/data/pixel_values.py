"""One meaning for arrays of pixels of any type and arrangement, or a refusal that says what to do.

Where only one meaning is possible, pixels become uint8 `(n, height, width, channels)` and a note
says so. Where two are possible, the user has to decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import UInt8
from tasks.core.data.depths import WHITES, scaled, white_of
from tasks.core.errors import UserError
from tasks.core.messages import quoted

# Resizing and float32 leave numbers a little above 1 where 1 is meant.
SLACK = 1e-3
# Numbers up to here are too few for 0 to 255, and too many for 0 to 1.
AMBIGUOUS = 2
COLOURS = (1, 3, 4)
# An image of fewer pixels in a flat row is more likely a column of something else.
LEAST_FLAT = 4


@dataclass(frozen=True)
class Span:
    """The least and the greatest number of an array, and how many are NaN or infinite."""

    lowest: float = math.inf
    highest: float = -math.inf
    unreal: int = 0

    def joined(self, other: Span) -> Span:
        """The span of two arrays."""
        return Span(
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.unreal + other.unreal,
        )


@dataclass(frozen=True)
class Conversion:
    """How pixels of any type become uint8 of the same shape.

    Attributes:
        convert: converts a block of them.
        note: a sentence about it, if any.
        white: the number that is white, if it is more than 255; otherwise 255.
    """

    convert: Callable[[NDArray[Any]], UInt8]
    note: str | None = None
    white: int = 255


@dataclass(frozen=True)
class Layout:
    """How a block of an array becomes images.

    Attributes:
        shape: height, width and channels (1, 3, or 4 with opacity) of each image.
        arrange: makes `(m, height, width, channels)` of `(m, ...)`, without a copy if possible.
        note: a sentence about it, if any.
    """

    shape: tuple[int, int, int]
    arrange: Callable[[NDArray[Any]], NDArray[Any]]
    note: str | None = None


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether an array's values can be pixels: bool, whole or real numbers."""
    return dtype.kind in "biuf"


def kind_of(dtype: np.dtype[Any]) -> str:
    """Arrays of one kind in one data set must have one meaning: bool, uint8, integer or float."""
    if dtype == np.uint8:
        return "uint8"
    return {"b": "bool", "f": "float"}.get(dtype.kind, "integer")


def span_of(block: NDArray[Any]) -> Span:
    """The span of a block of bool, whole or real numbers."""
    unreal = 0
    if block.dtype.kind == "f":
        real = np.isfinite(block)
        unreal = block.size - int(np.count_nonzero(real))
        if unreal:
            block = block[real]
    if block.size == 0:
        return Span(unreal=unreal)
    return Span(block.min().item(), block.max().item(), unreal)


def settles(dtype: np.dtype[Any], span: Span) -> bool:
    """Whether the span of the first blocks decides the meaning of all."""
    return dtype.kind == "b" or (dtype == np.uint8 and span.highest > 1)


def conversion(dtype: np.dtype[Any], span: Span, origin: str, white: int = 255) -> Conversion:
    """How numbers of a type and span become uint8.

    Args:
        dtype: their type.
        span: the least and the greatest of them.
        origin: how messages call them.
        white: the least number that is white in whole numbers but uint8, see
            `tasks.core.data.depths.white_of`.

    Raises:
        UserError: they are no numbers, or black and white are not defined; the message begins with
            `origin`.
    """
    if dtype.kind == "b":
        return Conversion(partial(scaled, white=1), "False and True were made 0 and 255")
    if dtype.kind in "iu":
        return _of_whole_numbers(dtype, span, origin, 255 if dtype == np.uint8 else white)
    if dtype.kind == "f":
        return _of_fractions(dtype, span, origin)
    raise UserError(
        f"{origin}: pixels have dtype {quoted(dtype.str)}; expected numbers, best uint8 from 0 to "
        "255."
    )


def _of_whole_numbers(dtype: np.dtype[Any], span: Span, origin: str, white: int) -> Conversion:
    if span.lowest < 0 or span.highest > WHITES[-1]:
        raise UserError(
            f"{origin}: pixels are {dtype.name} from {span.lowest} to {span.highest}, for which "
            "black and white are not defined; convert them to uint8 from 0 to 255."
        )
    if span.highest == 1 and white == 255:
        return Conversion(partial(scaled, white=1), "pixels are only 0 and 1: made 0 and 255")
    white = white_of(int(span.highest), white)
    if white > 255:
        note = f"{dtype.name} up to {span.highest}: white is {white}, scaled to 255"
        return Conversion(partial(scaled, white=white), note, white)
    return Conversion(
        _rounded, None if dtype == np.uint8 else f"{dtype.name} was taken as 0 to 255"
    )


def _of_fractions(dtype: np.dtype[Any], span: Span, origin: str) -> Conversion:
    if span.unreal:
        raise UserError(
            f"{origin}: {span.unreal:,} of the pixels are NaN or infinite; replace them, e.g. by "
            "np.nan_to_num, or remove their images."
        )
    if span.lowest < 0 or span.highest > 255:
        raise UserError(
            f"{origin}: pixels are {dtype.name} from {span.lowest:g} to {span.highest:g}, as if "
            "standardised, so black and white are not known; undo that and convert them to uint8 "
            "from 0 to 255."
        )
    if 1 + SLACK < span.highest <= AMBIGUOUS:
        raise UserError(
            f"{origin}: pixels are {dtype.name} from {span.lowest:g} to {span.highest:g}: white "
            "may be 1 or 255; convert them to uint8 from 0 to 255."
        )
    if span.highest <= 1 + SLACK:
        return Conversion(_multiplied, f"{dtype.name} from 0 to 1 was multiplied by 255")
    return Conversion(
        _rounded, f"{dtype.name} up to {span.highest:g} was taken as 0 to 255 and rounded"
    )


def _rounded(block: NDArray[Any]) -> UInt8:
    whole = np.rint(block) if block.dtype.kind == "f" else block
    found: UInt8 = whole.astype(np.uint8, copy=False)
    return found


def _multiplied(block: NDArray[Any]) -> UInt8:
    # Numbers of two bytes are too coarse for the product.
    wide = block.astype(np.float32, copy=False) if block.dtype.itemsize < 4 else block
    found: UInt8 = np.rint(np.clip(wide, 0, 1) * 255).astype(np.uint8)
    return found


def layout(shape: tuple[int, ...], origin: str) -> Layout:
    """How an array of a shape `(n, ...)` becomes images.

    Raises:
        UserError: it has no images, or its axes have no or several meanings; the message begins
            with `origin`.
    """
    if 0 in shape or not shape:
        raise UserError(f"{origin}: there are no images (shape {shape}); expected at least one.")
    if len(shape) == 2:
        return _flat(shape, origin)
    if len(shape) == 3:
        return _reshaped((shape[1], shape[2], 1))
    if len(shape) == 4:
        return _with_channels(shape, origin)
    kept = tuple(length for length in shape[1:] if length > 1)
    if len(kept) == 2 and len(shape) > 4:
        return _reshaped((kept[0], kept[1], 1), f"axes of length 1 were dropped from {shape[1:]}")
    # A last axis of length 1 is a channel, so an axis of length 3 is something else, e.g. time.
    if len(kept) == 3 and len(shape) > 4 and shape[-1] > 1:
        inner = _with_channels((shape[0], *kept), origin)
        return Layout(
            inner.shape,
            lambda block: inner.arrange(block.reshape(-1, *kept)),
            f"axes of length 1 were dropped from {shape[1:]}",
        )
    raise UserError(
        f"{origin}: images have shape {shape}; expected (n, height, width) or "
        "(n, height, width, channels) with 1, 3 or 4 channels."
    )


def _flat(shape: tuple[int, ...], origin: str) -> Layout:
    length = shape[1]
    side = math.isqrt(length)
    if side * side == length and length >= LEAST_FLAT:
        return _reshaped((side, side, 1), f"rows of {length} pixels were taken as {side} x {side}")
    colour = math.isqrt(length // 3)
    if 3 * colour * colour == length:
        raise UserError(
            f"{origin}: rows of {length} numbers may be {colour} x {colour} colours in two orders; "
            f"write them as (n, {colour}, {colour}, 3)."
        )
    raise UserError(
        f"{origin}: rows of {length} numbers are no square image; expected (n, height, width), so "
        "reshape them."
    )


def _with_channels(shape: tuple[int, ...], origin: str) -> Layout:
    last, first = shape[3] in COLOURS, shape[1] in (1, 3)
    if last and first and shape[1:] != (1, 1, 1):
        raise UserError(
            f"{origin}: images of shape {shape} may have their channels first or last; write grey "
            "images as (n, height, width), and colours as (n, height, width, 3) with more than 3 "
            "rows."
        )
    if last:
        note = "opacity was laid over each image's background" if shape[3] == 4 else None
        return _reshaped((shape[1], shape[2], shape[3]), note)
    if first:
        return Layout(
            (shape[2], shape[3], shape[1]),
            lambda block: np.moveaxis(block, 1, 3),
            f"channels are first in {shape[1:]}: moved to the end",
        )
    raise UserError(
        f"{origin}: images have shape {shape}; expected (n, height, width) or "
        "(n, height, width, channels) with 1, 3 or 4 channels."
    )


def _reshaped(shape: tuple[int, int, int], note: str | None = None) -> Layout:
    return Layout(shape, lambda block: block.reshape(-1, *shape), note)
