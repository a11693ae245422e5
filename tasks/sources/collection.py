"""A user's images in whatever form they came: what is known of each, and how to decode them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

import numpy as np
from PIL import Image

from tasks.core.array_types import UInt8
from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame, framed

# Why a file that a table names is left out.
MISSING = "missing"


@dataclass(frozen=True)
class Entry:
    """What is known of an image before it is decoded.

    Attributes:
        name: where it is: a path relative to the data set with `/`, or e.g. `x_train[17]`.
        label: the name of its class; a whole number where classes have no names.
        split: `train`, `validation` or `test`; None where the data set defines no splits.
        group: what it shares with images that must not be in another split, e.g. a person.
        weight: its weight in training, above 0; None where the data set has no weights.
    """

    name: str
    label: str
    split: str | None = None
    group: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Unusable:
    """Why an image can't be decoded, and what to do about it; begins with a verb, like `is`."""

    reason: str


class Images(Protocol):
    """The pixels behind the entries of a collection, in their order."""

    def traits(self) -> Iterator[Traits | Unusable]:
        """What each image is like, without its pixels if that is possible."""

    def decoded(self, frame: Frame) -> Iterator[UInt8 | Unusable]:
        """Each image in a frame, `(height, width, channels)` uint8, or why it is unusable.

        As many as there are entries. May be called repeatedly.
        """


@dataclass(frozen=True)
class Collection:
    """A user's data set.

    Attributes:
        entries: one for each image, in any order.
        images: their pixels, in the order of the entries.
        class_names: the classes in order, if the data set says so; otherwise they are sorted.
        notes: what was converted or assumed, a sentence each, for people.
        left_out: files that were not taken, as counts by reason, e.g. `{".heic": 3}`.
    """

    entries: Sequence[Entry]
    images: Images
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ArrayImages:
    """Images of one shape in arrays.

    Attributes:
        blocks: yields blocks `(m, height, width, channels)` uint8, each time it is called; with 4
            channels, the last is opacity.
        count: the number of images.
        each: what each of them is like.
    """

    blocks: Callable[[], Iterable[UInt8]]
    count: int
    each: Traits

    def traits(self) -> Iterator[Traits | Unusable]:
        """The same for each image."""
        return repeat(self.each, self.count)

    def decoded(self, frame: Frame) -> Iterator[UInt8 | Unusable]:
        """Each image in a frame; those of another size are resized on all cores."""
        wanted = (frame.height, frame.width, frame.channels)

        def made(pixels: UInt8) -> UInt8:
            return framed(as_picture(pixels), frame)

        with ThreadPoolExecutor() as threads:
            for block in self.blocks():
                if block.shape[1:] == wanted:
                    yield from map(np.ascontiguousarray, block)
                else:
                    yield from threads.map(made, block)


@dataclass(frozen=True)
class JoinedImages:
    """Images of several kinds, one after another."""

    parts: Sequence[Images]

    def traits(self) -> Iterator[Traits | Unusable]:
        """What each image is like."""
        for part in self.parts:
            yield from part.traits()

    def decoded(self, frame: Frame) -> Iterator[UInt8 | Unusable]:
        """Each image in a frame."""
        for part in self.parts:
            yield from part.decoded(frame)


def as_picture(pixels: UInt8) -> Image.Image:
    """`(h, w)` or `(h, w, 1, 3 or 4)` uint8 as a picture."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
