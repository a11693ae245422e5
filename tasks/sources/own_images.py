"""What is known of a user's own images once they are decoded, and what to tell the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.core.data.arrangement import Described, check_defined
from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame
from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.core.settings.images import ImageSettings
from tasks.sources.collection import MISSING, Collection, Unusable
from tasks.sources.decoded_images import DecodedImages

# Unreadable pictures that are named one by one.
_NAMED = 1_000


def check_entries(collection: Collection, settings: ImageSettings) -> None:
    """Refuse what is wrong with classes, splits and groups, before anything is decoded.

    Raises:
        UserError: see `tasks.core.data.arrangement.check_defined`.
    """
    entries = collection.entries
    check_defined(
        [entry.label for entry in entries],
        [entry.split if settings.splits == "auto" else None for entry in entries],
        [entry.group for entry in entries],
        collection.class_names,
    )


def traits_of(collection: Collection, settings: ImageSettings) -> list[Traits]:
    """What the images that can be read are like, at least one.

    Raises:
        UserError: no image can be read, or more files than the allowed share are missing.
    """
    missing = collection.left_out.get(MISSING, 0)
    if missing > settings.unreadable * (missing + len(collection.entries)):
        raise UserError(
            f"{missing:,} of {missing + len(collection.entries):,} listed files are missing; "
            f"expected at most {settings.unreadable:.0%}: correct their paths, or set "
            "images.unreadable."
        )
    found = list(collection.images.traits())
    usable = [one for one in found if not isinstance(one, Unusable)]
    if not usable:
        reason = next(one.reason for one in found if isinstance(one, Unusable))
        raise UserError(
            f"none of {len(collection.entries):,} images can be read; replace them. The first, "
            f"{collection.entries[0].name}, {reason}"
        )
    return usable


def described(collection: Collection, pixels: DecodedImages, settings: ImageSettings) -> Described:
    """What is known of the images that could be decoded.

    Raises:
        UserError: more than the allowed share could not be decoded.
    """
    entries, lost = collection.entries, pixels.unusable
    if len(lost) > settings.unreadable * len(entries):
        names = [entries[position].name for position in lost]
        raise UserError(
            f"{len(lost):,} of {len(entries):,} images can't be read ({listed(names)}); expected "
            f"at most {settings.unreadable:.0%}: remove or replace them, or set images.unreadable. "
            f"The first {lost[min(lost)]}"
        )
    usable = [position for position in range(len(entries)) if position not in lost]
    chosen = [entries[position] for position in usable]
    kept = settings.splits == "auto"
    return Described(
        np.array(usable, np.int64),
        pixels.digests[usable],
        [entry.label for entry in chosen],
        [entry.split if kept else None for entry in chosen],
        [entry.group for entry in chosen],
        [entry.weight for entry in chosen],
    )


def report_of(
    collection: Collection, unusable: Mapping[int, str], frame: Frame, traits: Sequence[Traits]
) -> dict[str, Any]:
    """What became of the user's files; `lines` say it in sentences.

    The other values are the numbers of images and of files left out by reason, the images that
    can't be read (the first thousand), the frame, and how large the images were before.
    """
    entries = collection.entries
    return {
        "lines": _lines(collection, unusable, frame),
        "images": len(entries),
        "left_out": dict(collection.left_out),
        "unreadable": [
            {"name": entries[position].name, "reason": reason}
            for position, reason in list(unusable.items())[:_NAMED]
        ],
        "unreadable_count": len(unusable),
        "frame": {
            "height": frame.height,
            "width": frame.width,
            "channels": frame.channels,
            "fit": frame.fit,
            "white": frame.white,
        },
        "sizes": _sizes(traits),
    }


def _lines(collection: Collection, unusable: Mapping[int, str], frame: Frame) -> list[str]:
    """What became of the user's files, in sentences."""
    entries = collection.entries
    colours = "grey" if frame.channels == 1 else "RGB"
    count = len(entries) - len(unusable)
    lines = [
        f"{count:,} images, read as {frame.width} x {frame.height} {colours} "
        f"({_FIT[frame.fit]} where proportions differ)",
        *([_DEEP.format(frame.white)] if frame.white > 255 else []),
        *collection.notes,
    ]
    # A note names the missing files already.
    counts = [(why, n) for why, n in Counter(collection.left_out).most_common() if why != MISSING]
    if counts:
        lines.append(f"left out: {listed([f'{count:,} {why}' for why, count in counts])}")
    if unusable:
        lines.append(
            f"{len(unusable):,} {'image' if len(unusable) == 1 else 'images'} can't be read: "
            f"{listed([entries[position].name for position in unusable])}"
        )
    read = {entry.label for position, entry in enumerate(entries) if position not in unusable}
    if lost := sorted({entry.label for entry in entries} - read):
        lines.append(f"classes of which no image can be read are left out: {listed(lost)}")
    return lines


def _sizes(traits: Sequence[Traits]) -> dict[str, Any]:
    """Height and width of the smallest, the median and the largest image; numbers by colour."""
    by_area = sorted((one.height * one.width, one.height, one.width) for one in traits)
    chosen = {"smallest": 0, "median": (len(by_area) - 1) // 2, "largest": -1}
    return {
        "different": len({(one.height, one.width) for one in traits}),
        **{name: list(by_area[at][1:]) for name, at in chosen.items()},
        "grey": sum(one.channels == 1 for one in traits),
        "rgb": sum(one.channels != 1 for one in traits),
    }


_DEEP = "white is {:,} in images of more than 8 bits per channel, and 255 in others"
_FIT = {"pad": "padded", "crop": "cropped", "stretch": "stretched"}
