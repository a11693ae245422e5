"""Data sets as arrays: an `.npz` archive or a folder of `.npy` files, under the usual names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from tasks.core.data.class_labels import strings
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed
from tasks.sources.array_collection import Part, Pixels, collected
from tasks.sources.class_folders import has_class_folders
from tasks.sources.class_names import checked_class_names, class_names_beside, read_class_names
from tasks.sources.collection import Collection
from tasks.sources.folder_listing import listing, names_in
from tasks.sources.split_names import SYNONYMS
from tasks.sources.stored_arrays import StoredArray, in_npy, in_npz

_NAMES_WANTED = (
    "expected x_train, y_train and perhaps x_val, y_val, x_test, y_test; or x, y; or one array of "
    "images per class, called like it"
)
# Beside roles, these two are clear, too.
_SHORT = {"train": ("tr",), "test": ("te",)}
_SPLITS = {split: "|".join((*names, *_SHORT.get(split, ()))) for split, names in SYNONYMS.items()}
_ROLES = {
    "images": r"x|images?|imgs?|pictures?|photos?|data|pixels?|features?|inputs?",
    "labels": r"y|labels?|lbls?|targets?",
}
_CLASS_NAMES = ("classnames", "labelnames", "targetnames", "classes", "categories", "names")
# What NumPy calls arrays without names, and what can't be a class.
_NO_CLASS = re.compile(
    rf"arr\d+|{'|'.join(_SPLITS.values())}|{'|'.join(_ROLES.values())}|{'|'.join(_CLASS_NAMES)}"
)
# The files of Quick, Draw! are called full_numpy_bitmap_cat.npy.
_QUICK_DRAW = "full_numpy_bitmap_"
# What may lie beside .npy files in a folder of them.
_BESIDE = {".npy", ".txt", ".md", ".json", ".yaml", ".yml", ".pdf", ""}

Role = tuple[str | None, str]


def accepts(path: Path) -> bool:
    """Whether a path is an `.npz` or `.npy` file, or a folder of `.npy` files.

    Raises:
        UserError: it is a folder that can't be read.
    """
    if os.path.isfile(path):
        return path.suffix.lower() in (".npz", ".npy")
    arrays = _npy_files(path)
    if not arrays:
        return False
    roles = [role[1] for file in arrays if (role := _role(file.stem))]
    if set(roles) == set(_ROLES):
        # Beside pictures, numbers describe them.
        return not has_class_folders(listing(path), path)
    return all(
        os.path.isfile(path / name) and os.path.splitext(name)[1].lower() in _BESIDE
        for name in names_in(path)
    )


def files(path: Path) -> list[Path]:
    """The file; of a folder, its `.npy` files and `class_names.txt`."""
    if os.path.isfile(path):
        return [path]
    names = class_names_beside(path)
    return sorted([*_npy_files(path), *([names] if names else [])])


def read(path: Path) -> Collection:
    """Read the headers, the labels, and where it is needed the least and greatest pixel.

    Raises:
        UserError: names, shapes or types of the arrays have no or several meanings, or a file is
            damaged.
    """
    if os.path.isfile(path) and path.suffix.lower() == ".npy":
        array = in_npy(path)
        raise UserError(
            f"{path}: one array {array.shape} has no labels; put it into a folder as x.npy beside "
            "y.npy with the labels, or write both into one file: np.savez(file, x=..., y=...)."
        )
    if os.path.isfile(path):
        arrays = {array.name: array for array in in_npz(path)}
    else:
        arrays = {file.stem: in_npy(file) for file in _npy_files(path)}
    roles = _roles(arrays, str(path))
    parts = _by_split(path, arrays, roles) if roles else []
    found = _class_names(arrays, parts)
    text = class_names_beside(path)
    names = _names_in(found) if found else read_class_names(text) if text else None
    if not roles:
        return replace(collected(_by_class(path, arrays), names), ordered=False)
    taken = {array.name for array in (*roles.values(), *([found] if found else []))}
    return collected(parts, names, _left_out(arrays, taken))


def _npy_files(folder: Path) -> list[Path]:
    found = (folder / name for name in names_in(folder))
    return [file for file in found if file.suffix.lower() == ".npy" and os.path.isfile(file)]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _role(name: str) -> Role | None:
    """The split and role of an array: `X_train`, `trainImages` and `train_x` mean the same."""
    for role, role_words in _ROLES.items():
        for split, words in _SPLITS.items():
            if re.fullmatch(
                rf"(?:{role_words})(?:{words})|(?:{words})(?:{role_words})", _plain(name)
            ):
                return split, role
        if re.fullmatch(role_words, _plain(name)):
            return None, role
    return None


def _roles(arrays: Mapping[str, StoredArray], origin: str) -> dict[Role, StoredArray]:
    """The arrays with roles: those of splits, or else those without."""
    found: dict[Role, list[str]] = {}
    for name in arrays:
        known = _role(name)
        if known:
            found.setdefault(known, []).append(name)
    if any(split for split, _ in found):
        found = {role: names for role, names in found.items() if role[0]}
    for (_, role), names in found.items():
        if len(names) > 1:
            raise UserError(
                f"{origin}: {listed(names)} may each be the {role}; remove or rename all but one."
            )
    return {role: arrays[names[0]] for role, names in found.items()}


def _by_split(
    path: Path, arrays: Mapping[str, StoredArray], roles: Mapping[Role, StoredArray]
) -> list[Part]:
    parts = []
    for split in (*_SPLITS, None):
        images, labels = roles.get((split, "images")), roles.get((split, "labels"))
        if images and labels:
            parts.append(Part(split, _pixels(images), labels.whole(), labels.origin))
        elif images or labels:
            alone, missing = (images, "labels") if images else (labels, "images")
            assert alone
            raise UserError(
                f"{path}: {alone.name} has no {missing}; {_NAMES_WANTED}; found: {_shapes(arrays)}."
            )
    return parts


def _by_class(path: Path, arrays: Mapping[str, StoredArray]) -> list[Part]:
    """One part for each array, which is called like its class."""
    unfit = [
        name
        for name, array in arrays.items()
        if _NO_CLASS.fullmatch(_plain(name)) or len(array.shape) < 2 or array.dtype.kind not in "bu"
    ]
    if unfit or len(arrays) < 2:
        raise UserError(f"{path}: {_NAMES_WANTED}; found: {_shapes(arrays) or 'none'}.")
    return [
        Part(
            None,
            _pixels(array),
            np.broadcast_to(np.array(name.removeprefix(_QUICK_DRAW)), array.shape[:1]),
            array.origin,
        )
        for name, array in arrays.items()
    ]


def _pixels(array: StoredArray) -> Pixels:
    return Pixels(array.name, array.origin, array.shape, array.dtype, array.blocks)


def _shapes(arrays: Mapping[str, StoredArray]) -> str:
    return listed([f"{name} {array.shape}" for name, array in arrays.items()], 90)


def _class_names(arrays: Mapping[str, StoredArray], parts: Sequence[Part]) -> StoredArray | None:
    """The array that names the classes in order; of several, the one with the clearest name."""
    found = [
        (_CLASS_NAMES.index(_plain(name)), array)
        for name, array in arrays.items()
        if _plain(name) in _CLASS_NAMES
        and (
            _plain(name) == _CLASS_NAMES[0]
            # Numbers called `classes` are no names, nor is there one for each image.
            or (array.dtype.kind in "USO" and not _for_images(array, parts))
        )
    ]
    return min(found, key=itemgetter(0))[1] if found else None


def _for_images(array: StoredArray, parts: Sequence[Part]) -> bool:
    """Whether an array has a value for each image, and not for each class."""
    counts = [part.pixels.shape[0] for part in parts if part.pixels.shape]
    if array.shape[:1] not in {(sum(counts),), *((count,) for count in counts)}:
        return False
    wide = max((part.labels.shape[1] for part in parts if part.labels.ndim == 2), default=1)
    different = {value for part in parts for value in np.unique(part.labels).tolist()}
    return array.shape[0] != (wide if wide > 1 else len(different))


def _names_in(array: StoredArray) -> tuple[str, ...]:
    values = array.whole()
    if values.ndim != 1 or values.dtype.kind not in "US":
        raise UserError(
            f"{array.origin} has shape {values.shape} and dtype {values.dtype}; expected "
            "(classes,) strings, such as np.array(['cat', 'dog'])."
        )
    try:
        texts = strings(values)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{array.origin}: names are bytes that are not UTF-8 ({first_line(error)}); write them "
            "as strings."
        ) from error
    return checked_class_names([name.strip() for name in texts.tolist()], array.origin)


def _left_out(arrays: Mapping[str, StoredArray], taken: AbstractSet[str]) -> list[str]:
    others = [name for name, array in arrays.items() if array.name not in taken]
    return [f"arrays that were not taken: {listed(others)}."] if others else []
