"""What is known of decoded images, and what the user is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.core.array_types import UInt8
from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame
from tasks.core.errors import UserError
from tasks.core.settings.images import ImageSettings
from tasks.sources.collection import Collection, Entry, Unusable
from tasks.sources.decoded_images import decoded_images
from tasks.sources.own_images import described, frame_of, report_of

DAMAGED = Unusable("is damaged; leave it out.")


class Images:
    """Grey images of many sizes, some of which are damaged."""

    def __init__(self, *damaged: int, count: int = 20) -> None:
        self._damaged, self._count = damaged, count

    def traits(self) -> Iterator[Traits | Unusable]:
        for number in range(self._count):
            yield DAMAGED if number in self._damaged else Traits(10 + number, 40, 1)

    def decoded(self, frame: Frame) -> Iterator[UInt8 | Unusable]:
        for number in range(self._count):
            image = np.full((frame.height, frame.width, frame.channels), number, np.uint8)
            yield DAMAGED if number in self._damaged else image


def collection(*damaged: int, **changes: Any) -> Collection:
    entries = [Entry(f"{at}.png", "ab"[at % 2], "test" if at > 9 else "train") for at in range(20)]
    return replace(Collection(entries, Images(*damaged)), **changes)


def test_damaged_images_do_not_count() -> None:
    given, settings = collection(0), ImageSettings()
    frame = frame_of(given, settings)
    assert frame == Frame(20, 20, 1)
    with decoded_images(given.images, frame) as pixels:
        found = described(given, pixels, settings)
    assert found.positions.tolist() == list(range(1, 20))
    assert found.labels[:2] == ["b", "a"]
    assert found.splits == ["train"] * 9 + ["test"] * 10


def test_splits_are_forgotten_if_all_are_drawn() -> None:
    given, settings = collection(), ImageSettings(splits="draw")
    with decoded_images(given.images, Frame(4, 4, 1)) as pixels:
        assert described(given, pixels, settings).splits == [None] * 20


def test_too_many_damaged_images_stop_the_run() -> None:
    given = collection(3, 4)
    with decoded_images(given.images, Frame(4, 4, 1)) as pixels:
        described(given, pixels, ImageSettings(unreadable=0.1))
        with pytest.raises(UserError) as refused:
            described(given, pixels, ImageSettings())
    assert str(refused.value) == (
        "2 of 20 images can't be read (3.png, 4.png); expected at most 5%: remove or replace "
        "them, or set images.unreadable. The first is damaged; leave it out."
    )


def test_none_that_can_be_read_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"none of 20 images can be read; .* first, 0\.png, is damaged"
    ):
        frame_of(collection(*range(20)), ImageSettings())


def test_too_many_missing_files_stop_the_run() -> None:
    frame_of(collection(left_out={"missing": 1}), ImageSettings())
    expected = r"^2 of 22 listed files are missing; expected at most 5%: correct their paths"
    with pytest.raises(UserError, match=expected):
        frame_of(collection(left_out={"missing": 2}), ImageSettings())


def test_the_report_says_what_became_of_the_files() -> None:
    given = collection(3, notes=("labels are one-hot",), left_out={".heic": 3, "missing": 1})
    report = report_of(given, {3: DAMAGED.reason}, Frame(20, 20, 1))
    assert report["lines"] == [
        "19 images, read as 20 x 20 grey (padded where proportions differ)",
        "labels are one-hot",
        "left out: 3 .heic",
        "1 image can't be read: 3.png",
    ]
    assert report["unreadable"] == [{"name": "3.png", "reason": DAMAGED.reason}]
    deep = report_of(given, {}, Frame(20, 20, 1, white=1_023))
    assert deep["lines"][1] == (
        "white is 1,023 in images of more than 8 bits per channel, and 255 in others"
    )
    assert (report["frame"]["white"], deep["frame"]["white"]) == (255, 1_023)
