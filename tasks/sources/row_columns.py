"""Which columns of a table say what about a picture, and what its rows say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.core.data.pixel_columns import PATHS
from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted
from tasks.sources.class_folders import label_of
from tasks.sources.collection import Entry
from tasks.sources.split_names import EXPECTED, split_of

# Names in any case, without spaces and signs between words. Those of the first group that occurs
# are meant; of one group, only one may occur. So it is with `PATHS`.
LABELS = (
    ("label",),
    ("class", "category", "target", "labels", "classname", "labelname", "classlabel"),
    ("y", "species", "breed", "diagnosis", "finelabel"),
)
SPLITS = (("split",), ("subset", "partition", "fold"))
GROUPS = (("group",), ("subject", "subjectid", "person", "personid", "patient", "patientid"))
WEIGHTS = (("weight",), ("sampleweight",))
# A loss with weights beyond these would be rounded to 0 or overflow 32 bits.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns by what they hold; None for what it lacks."""

    picture: str
    label: str
    split: str | None = None
    group: str | None = None
    weight: str | None = None

    @property
    def described(self) -> list[str]:
        """The columns that describe pictures."""
        names = (self.label, self.split, self.group, self.weight)
        return [name for name in names if name is not None]


def path_column(names: Sequence[str], origin: str) -> str:
    """The column of a table that holds paths of pictures.

    Raises:
        UserError: there is none, or there are several; the message begins with `origin`.
    """
    return _required(names, PATHS, "paths of pictures", "file_name", origin)


def columns_of(names: Sequence[str], picture: str, origin: str) -> Columns:
    """Tell the other columns of a table apart by their names.

    Raises:
        UserError: there is no column of classes, or there are several of one kind; the message
            begins with `origin`.
    """
    others = [name for name in names if name != picture]
    return Columns(
        picture,
        _required(others, LABELS, "classes", "label", origin),
        _only(others, SPLITS, "splits", "split", origin),
        _only(others, GROUPS, "groups", "group", origin),
        _only(others, WEIGHTS, "weights", "weight", origin),
    )


def entry_of(name: str, row: Mapping[str, str], columns: Columns, place: str) -> Entry:
    """What a row says about a picture.

    Args:
        name: the picture's name.
        row: the cells of `columns.described`, by column.
        columns: the table's columns.
        place: the row, for messages.

    Raises:
        UserError: the class is empty, the split unknown or the weight not above 0.
    """
    label = label_of(row[columns.label])
    if not label:
        raise UserError(
            f"{place} has no class in {quoted(columns.label)}; write one, or delete the row."
        )
    group = label_of(row[columns.group]) if columns.group else ""
    return Entry(
        name,
        label,
        _split(row[columns.split], place) if columns.split else None,
        group or None,
        _weight(row[columns.weight], place) if columns.weight else None,
    )


def _split(text: str, place: str) -> str:
    split = split_of(text)
    if split is None:
        raise UserError(f"{place} has the split {quoted(text)}; expected {EXPECTED}.")
    return split


def _weight(text: str, place: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not LEAST_WEIGHT <= weight <= 1 / LEAST_WEIGHT:
        raise UserError(
            f"{place} has the weight {quoted(text)}; expected a number above 0, from "
            f"{LEAST_WEIGHT:f} to {1 / LEAST_WEIGHT:,.0f}."
        )
    return weight


def _required(
    names: Sequence[str], wanted: Sequence[Sequence[str]], what: str, best: str, origin: str
) -> str:
    found = _only(names, wanted, what, best, origin)
    if found is None:
        found_names = listed(_all_quoted(names)) or "there are no others"
        raise UserError(
            f"{origin}: none of the columns ({found_names}) is known to hold {what}; name that "
            f"column {best}."
        )
    return found


def _only(
    names: Sequence[str], wanted: Sequence[Sequence[str]], what: str, best: str, origin: str
) -> str | None:
    for group in wanted:
        found = [name for name in names if plain(name) in group]
        if len(found) > 1:
            raise UserError(
                f"{origin}: has several columns that may hold {what}: "
                f"{listed(_all_quoted(found))}; name the right one {best}, and others differently."
            )
        if found:
            return found[0]
    return None


def _all_quoted(names: Iterable[str]) -> list[str]:
    """The names as they are shown in a message."""
    return [quoted(name) for name in names]


def plain(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return "".join(character for character in name.casefold() if character.isalnum())
