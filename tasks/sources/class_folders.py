"""Data sets as folders of pictures: a folder for each class, perhaps in folders of splits."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted
from tasks.core.names import TRAIN
from tasks.sources.collection import Collection, Entry
from tasks.sources.folder_listing import Listing, heic_notes, listing
from tasks.sources.picture_decoding import printable
from tasks.sources.picture_images import PictureImages
from tasks.sources.split_names import split_in, split_of

EXPECTED = "a folder of pictures with a folder for each class, perhaps in train, validation, test"

LOOSE = "pictures outside a class folder"
UNPLACED = "pictures outside train, validation and test"


@dataclass(frozen=True)
class Placed:
    """A picture in a folder of classes; its path is relative to the data set's."""

    path: Path
    label: str
    split: str | None


@dataclass
class Layout:
    """Where the pictures of a folder stand.

    Attributes:
        placed: the pictures with a class.
        parents: the folders that hold the folders of classes.
        left_out: pictures without a class, as counts by reason.
        nested: how many pictures are in subfolders of a class's folder.
    """

    placed: list[Placed] = field(default_factory=list)
    parents: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    nested: int = 0

    def add_classes(self, parent: Path, pictures: Iterable[Path], split: str | None) -> None:
        """Place pictures below a folder whose subfolders are classes."""
        depth = len(parent.parts)
        self.parents.append(parent)
        for path in pictures:
            if len(path.parts) == depth + 1:
                self.left_out[LOOSE] += 1
                continue
            self.placed.append(Placed(path, label_of(path.parts[depth]), split))
            self.nested += len(path.parts) > depth + 2


def accepts(path: Path) -> bool:
    """Whether a path is a folder that contains pictures, HEIC among them."""
    if not os.path.isdir(path):
        return False
    found = listing(path)
    return bool(found.pictures() or heic_notes(found.others()))


def has_class_folders(found: Listing, path: Path) -> bool:
    """Whether a folder can be read as folders of classes."""
    try:
        _layout(found, path)
    except UserError:
        return False
    return True


def files(path: Path) -> list[Path]:
    """The pictures that have a class, sorted.

    Raises:
        UserError: see `read`.
    """
    return [path / placed.path for placed in _layout(listing(path), path).placed]


def read(path: Path) -> Collection:
    """Find the pictures; their classes are called like their folders.

    Raises:
        UserError: there are no pictures, fewer than two folders of classes, or it is not clear
            which folders are splits and which classes.
    """
    found = listing(path)
    layout = _layout(found, path)
    entries = [
        Entry(printable(placed.path.as_posix()), placed.label, placed.split)
        for placed in layout.placed
    ]
    paths = [path / placed.path for placed in layout.placed]
    left_out = layout.left_out + found.left_out + found.others()
    notes = (*_notes(found, layout), *heic_notes(left_out))
    return Collection(
        entries, PictureImages(lambda: paths), notes=notes, left_out=left_out, ordered=False
    )


def label_of(name: str) -> str:
    """The name of a class as a folder, or a table, gives it: composed, without outer spaces."""
    # macOS decomposes accents in names of files, other systems do not.
    return printable(unicodedata.normalize("NFC", name).strip())


def _notes(found: Listing, layout: Layout) -> list[str]:
    notes = []
    used = {parent for placed in layout.placed for parent in placed.path.parents}
    empty = [
        printable(folder.as_posix())
        for folder in found.folders
        if folder.parent in layout.parents and folder not in used
    ]
    if empty:
        notes.append(f"Folders without pictures are left out: {listed(empty)}.")
    if layout.nested:
        notes.append(
            f"Pictures in subfolders of a class's folder belong to that class: {layout.nested:,}."
        )
    return notes


def _layout(found: Listing, path: Path) -> Layout:
    pictures = found.pictures()
    if not pictures:
        notes = " ".join(heic_notes(found.others()))
        raise UserError(
            f"{path}: contains no pictures that can be read; expected {EXPECTED}. {notes}".rstrip()
        )
    root, below = _unwrapped(Path(), pictures)
    splits = {name: split for name in below if (split := split_of(name))}
    layout = Layout()
    beside = len(pictures) - sum(map(len, below.values()))
    if splits and (len(splits) == len(below) or _has_classes(root, below, splits)):
        _place_splits(layout, root, below, splits, path)
    elif _splits_inside(root, below, path):
        for name, inside in below.items():
            depth = len(root.parts) + 1
            layout.placed += [
                Placed(picture, label_of(name), split_of(picture.parts[depth]))
                for picture in inside
            ]
        layout.parents.append(root)
    else:
        _check_likely_splits(splits, path)
        layout.add_classes(root, pictures, None)
        beside = 0
    layout.left_out.update({LOOSE: beside} if beside else {})
    _check_classes(layout, path)
    layout.placed.sort(key=lambda placed: placed.path)
    return layout


def _unwrapped(
    root: Path, pictures: list[Path], split: str | None = None
) -> tuple[Path, dict[str, list[Path]]]:
    """The first folder from `root` on with a choice, and the pictures in each of its subfolders.

    A folder whose only subfolder holds all folders of pictures is a wrapper, as archives make them,
    also with some loose pictures in it.
    A folder of a split is none. Inside of a split, one class may stand alone, so there only folders
    like `train/train` and `train/images` are wrappers.
    """
    while True:
        below = _subfolders(root, pictures)
        if len(below) != 1:
            return root, below
        (name,) = below
        deeper = _subfolders(root / name, pictures)
        wraps = split_of(f"{split} {name}") == split if split else split_of(name) is None
        loose = sum(map(len, deeper.values())) < len(pictures)
        if not wraps or not deeper or (loose and len(deeper) == 1):
            return root, below
        root /= name


def _subfolders(root: Path, pictures: list[Path]) -> dict[str, list[Path]]:
    depth = len(root.parts)
    below: dict[str, list[Path]] = {}
    for picture in pictures:
        if len(picture.parts) > depth + 1:
            below.setdefault(picture.parts[depth], []).append(picture)
    return below


def _has_classes(root: Path, below: dict[str, list[Path]], splits: dict[str, str]) -> bool:
    """Whether a folder called like the training split holds folders, beside other folders."""
    return any(
        split == "train" and len(_subfolders(root / name, below[name])) > 1
        for name, split in splits.items()
    )


def _place_splits(
    layout: Layout,
    root: Path,
    below: dict[str, list[Path]],
    splits: dict[str, str],
    path: Path,
) -> None:
    if len(set(splits.values())) < len(splits):
        raise UserError(
            f"{path}: the folders {listed(sorted(splits))} name a split twice; leave one folder "
            "for each of train, validation and test."
        )
    loose = sum(len(inside) for name, inside in below.items() if name not in splits)
    layout.left_out.update({UNPLACED: loose} if loose else {})
    for name, split in splits.items():
        parent, _ = _unwrapped(root / name, below[name], split)
        layout.add_classes(parent, below[name], split)


def _splits_inside(root: Path, below: dict[str, list[Path]], path: Path) -> bool:
    """Whether each class's folder holds a folder for each split, and nothing else."""
    inside = {}
    for name, pictures in below.items():
        deeper = _subfolders(root / name, pictures)
        named = [split_of(folder) for folder in deeper]
        whole = sum(map(len, deeper.values())) == len(pictures) and all(named)
        inside[name] = set(named) if whole else set()
    if all(inside.values()):
        return bool(inside)
    if any(len(splits) > 1 for splits in inside.values()):
        without = sorted(name for name, splits in inside.items() if not splits)
        raise UserError(
            f"{path}: some folders of classes contain folders of splits, but not "
            f"{listed(without)}; put the folders of splits above those of classes: train/cat/."
        )
    return False


def _check_likely_splits(splits: Mapping[str, str], path: Path) -> None:
    """Refuse folders like `test` beside those of classes; `train` may be a class of vehicles."""
    if held := sorted(name for name, split in splits.items() if split != TRAIN):
        raise UserError(
            f"{path}: {listed(held, 60)} beside folders of classes may be a split or a class; put "
            "those classes into train, or rename or move that folder."
        )


def _check_classes(layout: Layout, path: Path) -> None:
    labels = sorted({placed.label for placed in layout.placed})
    if "" in labels:
        raise UserError(f"{path}: the name of a class's folder is blank; rename it.")
    if len(labels) < 2:
        found = f"one, {quoted(labels[0])}" if labels else "none"
        raise UserError(
            f"{path}: expected a folder for each class, at least two; found {found}. Move the "
            "pictures of each class into a folder of its own, or add a table of files and classes."
        )
    if "train" in (spoken := {split_in(label) for label in labels}) and len(spoken - {None}) > 1:
        raise UserError(
            f"{path}: {listed(labels)} look like splits and not like classes; rename the folders "
            "to train, validation and test, and move others away."
        )
