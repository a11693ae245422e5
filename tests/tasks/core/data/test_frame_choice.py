"""The size and colours of images, chosen from the pictures."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.data.frame_choice import Traits, chosen_frame
from tasks.core.data.photographs import Frame
from tasks.core.settings.images import ImageSettings


@pytest.mark.parametrize(
    ("shapes", "settings", "expected"),
    [
        ([(28, 28, 1)] * 3, {}, Frame(28, 28, 1)),
        ([(28, 100, 3)] * 2, {}, Frame(28, 100, 3)),
        ([(128, 128, 3)], {}, Frame(128, 128, 3)),
        ([(129, 129, 3)], {}, Frame(64, 64, 3)),
        ([(20, 128, 3), (20, 129, 3)], {}, Frame(20, 20, 3)),
        ([(400, 600, 3), (3024, 3024, 3), (50, 70, 3)], {}, Frame(64, 64, 3)),
        ([(30, 40, 1), (31, 40, 3)], {}, Frame(30, 30, 3)),
        ([(400, 600, 3)] * 976, {}, Frame(64, 64, 3)),
        ([(400, 600, 3)] * 977, {}, Frame(48, 48, 3)),
        ([(400, 600, 3)] * 2_062, {}, Frame(40, 40, 3)),
        ([(400, 600, 3)] * 2_501, {}, Frame(32, 32, 3)),
        ([(400, 600, 3)] * 99_999, {}, Frame(32, 32, 3)),
        ([(28, 28, 1)], {"side": 48, "fit": "crop"}, Frame(48, 48, 1, "crop")),
        ([(28, 28, 1)], {"colour": "rgb"}, Frame(28, 28, 3)),
        ([(28, 28, 3)], {"colour": "grey", "fit": "stretch"}, Frame(28, 28, 1, "stretch")),
        ([(9, 9, 1, 255), (9, 9, 1, 4095), (9, 9, 1, 1023)], {}, Frame(9, 9, 1, white=4095)),
        ([(9, 9, 3, 1023)], {"side": 5}, Frame(5, 5, 3, white=1023)),
    ],
)
def test_the_frame_follows_the_pictures(
    shapes: list[tuple[int, ...]], settings: dict[str, Any], expected: Frame
) -> None:
    images = [Traits(*shape) for shape in shapes]
    assert chosen_frame(images, ImageSettings.model_validate(settings)) == expected
