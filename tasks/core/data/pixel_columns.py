"""Which columns of a table are the pixels of an image, and which is its label."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted

# A table with fewer columns of pixels is one of something else.
LEAST_PIXELS = 9

_NUMBERED = re.compile(r"(?P<called>.*?)(?P<row>\d+)(?:[_x.,: -]+(?P<column>\d+))?")
_LABELS = {"label", "labels", "class", "classes", "target", "y", "category", "classlabel"}
# The numbers of rows, which pandas writes as the first column.
_INDICES = {"", "index", "id", "unnamed0", "indexlevel0"}
# Columns that say where a picture is, without case, blanks and signs; those of the first group that
# occurs are meant.
PATHS = (
    ("filename",),
    ("file", "path", "filepath", "image", "imagepath", "imagefile", "imagename", "img", "imgpath"),
    ("picture", "photo", "imageid", "imgid", "id", "idcode", "name"),
)
_FILES = {"url", *PATHS[0], *PATHS[1]}
# Beside these, numbers are pixels only if they are called so: features of pictures are not.
_NAMES = frozenset(PATHS[2])
_CALLED_PIXELS = re.compile(r"(?:p|px|pix|pixels?)?")


@dataclass(frozen=True)
class Columns:
    """The positions of columns.

    Attributes:
        pixels: those of the pixels in the order of the image's rows.
        label: that of the label; None where only the first or the last column can be it.
        shape: height and width if the names tell, else the number of pixels.
        others: the names of columns that are neither.
    """

    pixels: tuple[int, ...]
    label: int | None
    shape: tuple[int, ...]
    others: tuple[str, ...] = ()


def plain_name(name: str) -> str:
    """A name without case, blanks and signs."""
    return re.sub(r"[\W_]", "", name.lower())


def pixel_positions(names: Sequence[str]) -> list[int]:
    """The columns with names like `pixel0`, `28x28` or `7`: the largest group with one beginning.

    Empty if there are fewer than `LEAST_PIXELS`, or if the pictures are in other files.
    """
    plain = {plain_name(name) for name in names}
    if plain & _FILES:
        return []
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        match = _NUMBERED.fullmatch(name.strip().lower())
        if match:
            groups.setdefault(match["called"], []).append(position)
    if not groups:
        return []
    called, largest = max(groups.items(), key=lambda group: len(group[1]))
    features = plain & _NAMES and not _CALLED_PIXELS.fullmatch(plain_name(called))
    return largest if len(largest) >= LEAST_PIXELS and not features else []


def label_position(names: Sequence[str], candidates: Sequence[int], origin: str) -> int | None:
    """The column of labels: the one with a usual name, else the only one.

    Raises:
        UserError: several can be it.
    """
    for positions in (
        [position for position in candidates if plain_name(names[position]) in _LABELS],
        [position for position in candidates if plain_name(names[position]) not in _INDICES],
    ):
        if len(positions) == 1:
            return positions[0]
        if positions:
            raise UserError(
                f"{origin}: the columns {listed([names[p] for p in positions], 80)} may each be "
                "the label; call one of them label, or remove the others."
            )
    return None


def columns_of(names: Sequence[str], origin: str) -> Columns:
    """The columns of a table with a header.

    Raises:
        UserError: there is no column of labels, or several; or not one column for each pixel.
    """
    pixels = pixel_positions(names)
    rest = [position for position in range(len(names)) if position not in set(pixels)]
    label = label_position(names, rest, origin)
    if label is None and (rest or not _square(len(pixels) - 1)):
        raise UserError(
            f"{origin}: there are {len(pixels)} columns of pixels and no column called label; "
            "add one, or remove the file if its images have no labels."
        )
    ordered, shape = in_order(names, pixels, origin)
    if label is None:
        return Columns((), None, (len(pixels) - 1,))
    others = tuple(names[p] for p in rest if p != label and plain_name(names[p]) not in _INDICES)
    return Columns(ordered, label, shape, others)


def columns_without_names(count: int, origin: str) -> Columns:
    """The columns of a table without a header: a label first or last, and a square image.

    Raises:
        UserError: the number of columns is not that of a square and a label.
    """
    if not _square(count - 1):
        raise UserError(
            f"{origin}: there are {count} columns without names; expected a label and a square "
            "number of pixels, such as 1 + 784. Add a header: label,pixel0,pixel1,..."
        )
    return Columns((), None, (count - 1,))


def in_order(
    names: Sequence[str], pixels: Sequence[int], origin: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pixels in the order of their names, since some programs sort `pixel10` before `pixel2`.

    Returns:
        Their positions, and height and width if the names tell, else their number.

    Raises:
        UserError: one is missing, or there twice.
    """
    places = {}
    for position in pixels:
        match = _NUMBERED.fullmatch(names[position].strip().lower())
        assert match, "it was found by its name"
        places[position] = (int(match["row"]), int(match["column"] or -1))
    ordered = tuple(sorted(pixels, key=lambda position: places[position]))
    axes = [[place[axis] for place in places.values()] for axis in (0, 1)]
    height, width = (max(axis) - min(axis) + 1 for axis in axes)
    different = len(set(places.values()))
    if not height * width == different == len(pixels):
        found = f"{len(pixels):,}, {different:,} of them different"
        raise UserError(
            f"{origin}: the columns {quoted(names[ordered[0]], 30)} to "
            f"{quoted(names[ordered[-1]], 30)} are not one for each pixel: expected "
            f"{height * width:,}, found {found}. Correct the header, or get the table again."
        )
    return ordered, (len(pixels),) if -1 in axes[1] else (height, width)


def _square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def label_end(first: Sequence[str], last: Sequence[str], origin: str) -> int:
    """0 if the first column of a table without names holds the labels, -1 if the last does.

    A label is text, or varies while the other column is the corner of all images and does not, or
    takes each number from 0 or 1 on while the other does not.

    Raises:
        UserError: both can be.
    """
    ends = (set(first), set(last))
    for only in (
        [not all(map(_numeric, values)) for values in ends],
        [len(values) > 1 for values in ends],
        [_counted(values) and len(values) * 2 <= len(first) for values in ends],
    ):
        if only[0] != only[1]:
            return 0 if only[0] else -1
    raise UserError(
        f"{origin}: without a header, the label may be the first or the last column; add a header: "
        "label,pixel0,pixel1,..."
    )


def _numeric(text: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?\s*", text, re.IGNORECASE))


def _counted(values: set[str]) -> bool:
    try:
        numbers = sorted(int(float(value)) for value in values)
    except (ValueError, OverflowError):
        return False
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
