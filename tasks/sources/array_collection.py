"""A collection of arrays of images: checks, labels, and conversion to uint8 in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import UInt8
from tasks.core.data.class_labels import Labels, named, strings
from tasks.core.data.frame_choice import Traits
from tasks.core.data.pixel_values import (
    Conversion,
    Layout,
    Span,
    conversion,
    is_number,
    kind_of,
    layout,
    settles,
    span_of,
)
from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted
from tasks.sources.class_folders import label_of
from tasks.sources.collection import ArrayImages, Collection, Entry, JoinedImages
from tasks.sources.picture_decoding import MOST_PIXELS


@dataclass(frozen=True)
class Pixels:
    """An array of images in any form that `pixel_values` knows.

    Attributes:
        name: what its images are called: `name[17]`.
        origin: how messages call it.
        shape: its shape `(n, ...)`.
        dtype: its type.
        blocks: yields blocks of its rows, each time it is called.
        span: its least and greatest number, if they are known already.
    """

    name: str
    origin: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterable[NDArray[Any]]]
    span: Span | None = None


@dataclass(frozen=True)
class Part:
    """Images with their labels `(n,)`, `(n, 1)` or one-hot; `split` as in `Entry`."""

    split: str | None
    pixels: Pixels
    labels: NDArray[Any]
    labels_origin: str


def collected(
    parts: Sequence[Part], class_names: tuple[str, ...] | None, notes: Sequence[str] = ()
) -> Collection:
    """The parts as one collection. Images are read once to find their span, if that is needed.

    Raises:
        UserError: images or labels have no or several meanings, or do not fit together.
    """
    pixels = [part.pixels for part in parts]
    layouts = [layout_of(array) for array in pixels]
    classes = named(
        [Labels(_plain(part.labels), part.pixels.shape[0], part.labels_origin) for part in parts],
        class_names,
    )
    conversions = _conversions(pixels)
    entries = [
        Entry(f"{part.pixels.name}[{number}]", label, part.split)
        for part, labels in zip(parts, classes.classes, strict=True)
        for number, label in enumerate(labels)
    ]
    images = [
        ArrayImages(partial(converted, array, how, into), array.shape[0], _traits(how, into))
        for array, how, into in zip(pixels, layouts, conversions, strict=True)
    ]
    said = [
        *_said(pixels, [how.note for how in layouts]),
        *_said(pixels, [into.note for into in conversions]),
        *([f"{classes.note}."] if classes.note else []),
    ]
    return Collection(entries, JoinedImages(images), class_names, (*notes, *said))


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Strings as names of classes that can be shown and stored; other labels as they are."""
    if labels.dtype.kind == "S":
        # Those that are not UTF-8 are refused later.
        with suppress(UnicodeDecodeError):
            labels = strings(labels)
    if labels.dtype.kind != "U":
        return labels
    different, places = np.unique(labels, return_inverse=True)
    names: NDArray[np.str_] = np.array([label_of(name) for name in different.tolist()], str)
    return names[places.reshape(labels.shape)]


def layout_of(array: Pixels) -> Layout:
    """How an array's blocks become images.

    Raises:
        UserError: they are no numbers, too large, or have no or several meanings.
    """
    if not is_number(array.dtype):
        raise UserError(
            f"{array.origin}: pixels have dtype {quoted(array.dtype.str)}; expected numbers, best "
            "uint8 from 0 to 255."
        )
    found = layout(array.shape, array.origin)
    if found.shape[0] * found.shape[1] > MOST_PIXELS:
        raise UserError(
            f"{array.origin}: images have {found.shape[0]} x {found.shape[1]} pixels; expected at "
            f"most {MOST_PIXELS:,}."
        )
    return found


def _traits(how: Layout, into: Conversion) -> Traits:
    height, width, channels = how.shape
    return Traits(height, width, min(channels, 3), into.white)


def _conversions(arrays: Sequence[Pixels]) -> list[Conversion]:
    """One meaning for all arrays of a kind, so that a dark split is not taken for another form."""
    spans: dict[str, Span] = {}
    for array in arrays:
        kind = kind_of(array.dtype)
        before = spans.get(kind, Span())
        if not settles(array.dtype, before):
            spans[kind] = before.joined(array.span or span_in(array))
    return [conversion(a.dtype, spans.get(kind_of(a.dtype), Span()), a.origin) for a in arrays]


def span_in(array: Pixels) -> Span:
    """The least and the greatest number, of as many blocks as decide what they mean."""
    found = Span()
    if array.dtype.kind == "b":
        return found
    for block in array.blocks():
        found = found.joined(span_of(block))
        if settles(array.dtype, found):
            break
    return found


def converted(array: Pixels, how: Layout, into: Conversion) -> Iterator[UInt8]:
    """Blocks of images `(m, height, width, channels)`."""
    for block in array.blocks():
        yield into.convert(how.arrange(block))


def _said(arrays: Sequence[Pixels], notes: Sequence[str | None]) -> list[str]:
    """Sentences, each once, with the names of the arrays that they are about."""
    about: dict[str, list[str]] = {}
    for array, note in zip(arrays, notes, strict=True):
        if note:
            about.setdefault(note, []).append(array.name)
    return [f"{listed(names)}: {note}." for note, names in about.items()]
